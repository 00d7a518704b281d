//! Guest tests: what must hold on real machines.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::testbed::cache::Cache;

/// Runs those whose name contains the filter.
///
/// # Errors
/// When none does.
pub fn run(_cache: &Cache, _filter: Option<&str>, _list: bool) -> Result<ExitCode> {
    bail!("no guest test yet")
}
