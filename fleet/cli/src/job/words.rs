//! The words of amounts and choices, the same in files and flags.

use loadline_model::{CpuRequest, Elastic, MilliCpu, OnNodeLost, Priority, Tier, Workers};

/// `2`: whole CPUs; `500m`: a share.
pub(super) fn cpus(text: &str) -> Result<CpuRequest, String> {
    let amount: MilliCpu = text.parse().map_err(told)?;
    if text.ends_with('m') {
        return Ok(CpuRequest::Shared(amount));
    }
    let whole = u32::try_from(amount.whole_cpus()).map_err(|_| format!("`{text}` is too many"))?;
    Ok(CpuRequest::Exclusive(whole))
}

/// `4`, or `1-8`.
pub(super) fn workers(text: &str) -> Result<Workers, String> {
    let bad = |_| format!("`{text}` is not a number of workers like \"4\", or a range like \"1-8\"");
    match text.split_once('-') {
        None => Ok(Workers::Fixed(text.parse().map_err(bad)?)),
        Some((min, max)) => Ok(Workers::Elastic(Elastic {
            min: min.parse().map_err(bad)?,
            max: max.parse().map_err(bad)?,
        })),
    }
}

pub(super) fn tier(text: &str) -> Result<Tier, String> {
    [Tier::Standard, Tier::Burst]
        .into_iter()
        .find(|tier| tier.word() == text)
        .ok_or_else(|| format!("`{text}` is not a tier: \"standard\" or \"burst\""))
}

pub(super) fn on_node_lost(text: &str) -> Result<OnNodeLost, String> {
    [OnNodeLost::Wait, OnNodeLost::Replace]
        .into_iter()
        .find(|choice| choice.word() == text)
        .ok_or_else(|| format!("`{text}` is not one of \"wait\" and \"replace\""))
}

pub(super) fn priority(text: &str) -> Result<Priority, String> {
    text.parse().map_err(told)
}

pub(super) fn count(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number"))
}

pub(super) fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
