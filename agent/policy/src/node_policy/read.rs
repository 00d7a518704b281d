//! From the file's tree to a valid policy: one rule per key, every mistake kept.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use loadline_model::{Bytes, CpuSet, PerMille};

use super::raw::{Mistakes, RawValue, Section};
use super::slo::read_slo;
use crate::io_cost::Cost;

use super::{
    CpusetChoice, Days, Headroom, Lend, Mode, NodePolicy, PolicyMistakes, Protect, ProveConsent,
    RawNodePolicy, Reserve, ReserveCpus, ReserveMemory, UID_FLOOR, Window, WindowZone,
};

/// The kernel's ceiling on CPU numbers; a larger count can only be a slip.
const CPUS_MAX: u32 = 8192;

pub(super) fn read(raw: RawNodePolicy) -> Result<NodePolicy, PolicyMistakes> {
    let mut mistakes = Mistakes::default();
    let mut policy = NodePolicy::default();
    let mut file = Section::new("", raw.0);
    read_version(&mut file, &mut mistakes);
    if let Some(section) = file.table("lend", &mut mistakes) {
        read_lend(section, &mut policy.lend, &mut mistakes);
    }
    if let Some(mut section) = file.table("pinning", &mut mistakes) {
        policy.cpuset = read_cpuset(&mut section, &mut mistakes).unwrap_or(policy.cpuset);
        section.finish(&mut mistakes);
    }
    if let Some(section) = file.table("io", &mut mistakes) {
        policy.io_cost = read_io(section, &mut mistakes);
    }
    if let Some(section) = file.table("production", &mut mistakes) {
        read_production(section, &mut policy, &mut mistakes);
    }
    file.finish(&mut mistakes);
    if mistakes.0.is_empty() {
        Ok(policy)
    } else {
        Err(PolicyMistakes(mistakes.0))
    }
}

fn read_version(file: &mut Section, mistakes: &mut Mistakes) {
    match file.take("version") {
        Some(RawValue::Whole(1)) => {}
        Some(RawValue::Whole(other)) => mistakes.add(
            "version",
            format!("{other} is not known here; this Loadline reads version 1"),
        ),
        Some(_) => mistakes.add("version", "must be the number 1"),
        None => mistakes.add("version", "is missing; begin the file with `version = 1`"),
    }
}

fn one_of<T: Copy>(
    section: &mut Section,
    key: &'static str,
    words: &[(&str, T)],
    mistakes: &mut Mistakes,
) -> Option<T> {
    let text = section.text(key, mistakes)?;
    let found = words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value);
    if found.is_none() {
        let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        mistakes.add(
            &section.key(key),
            format!("`{text}` is none of {}", words.join(", ")),
        );
    }
    found
}

fn read_cpuset(section: &mut Section, mistakes: &mut Mistakes) -> Option<CpusetChoice> {
    let words = [
        ("auto", CpusetChoice::Auto),
        ("always", CpusetChoice::Always),
        ("never", CpusetChoice::Never),
    ];
    one_of(section, "cpuset", &words, mistakes)
}

fn read_lend(mut section: Section, lend: &mut Lend, mistakes: &mut Mistakes) {
    let modes = [Mode::Off, Mode::Shadow, Mode::Enforce].map(|mode| (mode.word(), mode));
    lend.mode = one_of(&mut section, "mode", &modes, mistakes).unwrap_or(lend.mode);
    let windows = section.tables("windows", mistakes);
    lend.windows = windows
        .into_iter()
        .filter_map(|window| read_window(window, mistakes))
        .collect();
    if let Some(teams) = section.texts("allow_teams", mistakes) {
        lend.allow_teams = BTreeSet::from_iter(teams);
    }
    let rule = "must be 1 or more: root is never lent to";
    lend.uid_min = section
        .whole("uid_min", rule, UID_FLOOR..=u32::MAX - 1, mistakes)
        .unwrap_or(lend.uid_min);
    if let Some(groups) = section.texts("deny_groups", mistakes) {
        lend.deny_groups = BTreeSet::from_iter(groups);
    }
    let consents = [ProveConsent::Allow, ProveConsent::Refuse].map(|consent| (consent.word(), consent));
    lend.prove = one_of(&mut section, "prove", &consents, mistakes).unwrap_or(lend.prove);
    section.finish(mistakes);
}

fn read_window(mut section: Section, mistakes: &mut Mistakes) -> Option<Window> {
    let before = mistakes.0.len();
    let days: Option<Days> = section.parsed("days", mistakes);
    let from = section.parsed("from", mistakes);
    let to = section.parsed("to", mistakes);
    let zone = section
        .text("tz", mistakes)
        .map_or(WindowZone::Node, WindowZone::Named);
    let key = section.key("from");
    section.finish(mistakes);
    match (from, to) {
        (Some(from), Some(to)) if from == to => mistakes.add(
            &key,
            format!("the window from {from} to {to} is empty; a whole day is \"00:00\" to \"24:00\""),
        ),
        (Some(from), Some(to)) => {
            return Some(Window {
                days: days.unwrap_or(Days::ALL),
                from,
                to,
                zone,
            });
        }
        _ if mistakes.0.len() == before => mistakes.add(&key, "a window needs both `from` and `to`"),
        _ => {}
    }
    None
}

fn read_io(mut section: Section, mistakes: &mut Mistakes) -> Vec<Cost> {
    let mut costs: Vec<Cost> = Vec::new();
    for entry in section.tables("cost", mistakes) {
        let key = entry.key("disk");
        let Some(cost) = read_cost(entry, mistakes) else {
            continue;
        };
        if costs.iter().any(|other| other.disk == cost.disk) {
            mistakes.add(&key, format!("`{}` is there twice", cost.disk));
        }
        costs.push(cost);
    }
    section.finish(mistakes);
    costs
}

fn read_cost(mut section: Section, mistakes: &mut Mistakes) -> Option<Cost> {
    let key = section.key("disk");
    let disk = section.text("disk", mistakes);
    let model = section.parsed("model", mistakes);
    let qos = section.parsed("qos", mistakes);
    section.finish(mistakes);
    let Some(disk) = disk else {
        mistakes.add(&key, "say which disk, for instance \"vda\"");
        return None;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_!".contains(&byte);
    if disk.is_empty() || !disk.bytes().all(plain) {
        let rule = "is not a disk's name as /sys/block has it, like \"vda\"";
        mistakes.add(&key, format!("`{disk}` {rule}"));
        return None;
    }
    Some(Cost { disk, model, qos })
}

fn read_production(mut section: Section, policy: &mut NodePolicy, mistakes: &mut Mistakes) {
    let protect = section.tables("protect", mistakes);
    policy.protect = protect
        .into_iter()
        .filter_map(|entry| read_protect(entry, mistakes))
        .collect();
    if let Some(reserve) = section.table("reserve", mistakes) {
        read_reserve(reserve, &mut policy.reserve, mistakes);
    }
    if let Some(headroom) = section.table("headroom", mistakes) {
        read_headroom(headroom, &mut policy.headroom, mistakes);
    }
    section.finish(mistakes);
}

fn read_protect(mut section: Section, mistakes: &mut Mistakes) -> Option<Protect> {
    let key = section.key("unit");
    let unit = section.text("unit", mistakes);
    let memory = section.parsed::<Bytes>("memory", mistakes);
    let slo = section
        .table("slo", mistakes)
        .and_then(|slo| read_slo(slo, mistakes));
    section.finish(mistakes);
    let Some(unit) = unit else {
        mistakes.add(&key, "say which unit, for instance \"nginx.service\"");
        return None;
    };
    let suffix = [".service", ".slice", ".scope"]
        .iter()
        .any(|suffix| unit.ends_with(suffix));
    let plain = unit.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if !suffix || !plain {
        mistakes.add(
            &key,
            format!("`{unit}` is not the name of a service, slice or scope, like \"nginx.service\""),
        );
        return None;
    }
    if unit.starts_with("loadline") {
        mistakes.add(
            &key,
            format!("`{unit}` belongs to Loadline; only production is protected"),
        );
        return None;
    }
    Some(Protect { unit, memory, slo })
}

fn read_reserve(mut section: Section, reserve: &mut Reserve, mistakes: &mut Mistakes) {
    let key = section.key("cpus");
    let rule = "must be a number of CPUs like 1, or a list like \"0-3\"";
    match section.take("cpus") {
        None => {}
        Some(RawValue::Whole(count)) => match u32::try_from(count).ok().filter(|count| *count <= CPUS_MAX) {
            Some(count) => reserve.cpus = ReserveCpus::Count(count),
            None => mistakes.add(&key, rule),
        },
        Some(RawValue::Text(list)) => match list.parse::<CpuSet>() {
            Ok(cpus) if cpus.is_empty() => mistakes.add(&key, rule),
            Ok(cpus) => reserve.cpus = ReserveCpus::List(cpus),
            Err(error) => mistakes.add(&key, format!("{error}")),
        },
        Some(_) => mistakes.add(&key, rule),
    }
    let key = section.key("memory");
    if let Some(text) = section.text("memory", mistakes) {
        match read_memory(&text) {
            Some(memory) => reserve.memory = memory,
            None => mistakes.add(
                &key,
                format!("`{text}` is neither an amount like \"8GiB\" nor a share like \"10%\""),
            ),
        }
    }
    let rule = "must be a number of whole GPUs, 0 to 64";
    reserve.gpus = section
        .whole("gpus", rule, 0..=64, mistakes)
        .unwrap_or(reserve.gpus);
    section.finish(mistakes);
}

fn read_memory(text: &str) -> Option<ReserveMemory> {
    let amount = text.parse::<Bytes>().map(ReserveMemory::Amount);
    let share = text.parse::<PerMille>().map(ReserveMemory::Share);
    amount.ok().or(share.ok())
}

fn read_headroom(mut section: Section, headroom: &mut Headroom, mistakes: &mut Mistakes) {
    headroom.cpu = section.parsed("cpu", mistakes).unwrap_or(headroom.cpu);
    headroom.memory = section.parsed("memory", mistakes).unwrap_or(headroom.memory);
    section.finish(mistakes);
}
