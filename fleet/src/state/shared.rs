//! What many jobs have in common is kept once: names, submitters, needs, whole specifications.

use std::sync::Arc;

use loadline_model::{Needs, Pool, SpecFields};

use super::change::Change;
use super::node_types::Site;
use super::rows::{JobRow, Submitter};

/// All of it.
#[derive(Debug, Default)]
pub struct Shared {
    names: Pool<str>,
    submitters: Pool<Submitter>,
    needs: Pool<Needs>,
    specs: Pool<SpecFields>,
}

impl Shared {
    /// Lets a job hold what others hold.
    pub(crate) fn of_job(&mut self, row: &mut JobRow) {
        row.submitter = self.submitters.share(&row.submitter);
        let (needs, specs) = (&mut self.needs, &mut self.specs);
        row.spec
            .share(|value| needs.share(value), |value| specs.share(value));
    }

    /// Lets a site hold the name of an account that others hold.
    pub(crate) fn of_site(&mut self, site: &mut Site) {
        site.user = self.names.share(&site.user);
    }

    /// The same for a row that nobody holds yet.
    pub(crate) fn of_change(&mut self, change: &mut Change) {
        match change {
            Change::Job(_, Some(row)) => {
                if let Some(row) = Arc::get_mut(row) {
                    self.of_job(row);
                }
            }
            Change::Attempt(_, Some(row)) => {
                let site = Arc::get_mut(row).and_then(|row| row.site.as_mut());
                if let Some(site) = site.and_then(Arc::get_mut) {
                    self.of_site(site);
                }
            }
            _ => {}
        }
    }
}
