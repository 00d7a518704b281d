//! The openb trace of a production GPU cluster (Weng et al., *Beware of Fragmentation*, USENIX ATC 2023; the files are
//! `openb_node_list_*.csv` and `openb_pod_list_*.csv`), as nodes that lend and as jobs of one worker.
//!
//! The first line names the columns, which differ between the variants; an amount that is left out is none. Times are
//! seconds. Pods that were never scheduled ran nobody knows how long: they are no work, like jobs of a log that never
//! ran. Nobody said in the trace how long a pod may run, so no job has a time limit.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use loadline_model::{
    Amounts, Bytes, CpuRequest, Is, Labels, MilliCpu, Needs, NodeId, PerMille, Requirement, Span, WallTime,
    WorkerRequest, as_label_value, shown,
};

use crate::sim::work::Work;
use crate::snapshot::{HeldByTier, Line, Node, NodeState, Traits};

/// The label that says which GPUs a node has.
const MODEL: &str = "gpu-model";

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenbNode {
    /// Its name.
    pub name: String,
    /// All of its CPU.
    pub cpu: MilliCpu,
    /// All of its memory.
    pub memory: Bytes,
    /// How many GPUs, all of one model.
    pub gpus: u32,
    /// Which; empty without GPUs.
    pub model: String,
}

/// What was asked for, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenbPod {
    /// Its name.
    pub name: String,
    /// CPU.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: Bytes,
    /// How many GPUs.
    pub gpus: u32,
    /// Of one GPU so much; whole where there are several, or none.
    pub share: PerMille,
    /// Any of these models; none: any at all.
    pub models: Vec<String>,
    /// When; none in variants without times.
    pub life: Option<OpenbLife>,
}

/// The times of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenbLife {
    /// It was asked for.
    pub created: WallTime,
    /// It was given a node; none: never.
    pub scheduled: Option<WallTime>,
    /// It was gone.
    pub deleted: WallTime,
}

/// Why a text is no list of nodes or pods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenbError {
    /// Nothing at all.
    #[error("the file is empty: its first line names the columns")]
    Empty,
    /// Something is not said of any of them.
    #[error("line 1: there is no column `{0}`")]
    NoColumn(&'static str),
    /// More or fewer than there are columns.
    #[error("line {line}: {cells} values for {columns} columns")]
    Cells {
        /// Which line.
        line: usize,
        /// So many values.
        cells: usize,
        /// So many columns.
        columns: usize,
    },
    /// A value that cannot be.
    #[error("line {line}, column {column}: `{text}` is not {wanted}")]
    Value {
        /// Which line.
        line: usize,
        /// Which column.
        column: &'static str,
        /// What stands there.
        text: String,
        /// What belongs there.
        wanted: &'static str,
    },
}

/// The columns by name, and the rows below them.
struct Table<'t> {
    columns: Vec<&'t str>,
    rows: Vec<(usize, Vec<&'t str>)>,
}

/// A row of a table.
struct Row<'r, 't> {
    table: &'r Table<'t>,
    line: usize,
    cells: &'r [&'t str],
}

impl<'t> Table<'t> {
    fn read(text: &'t str) -> Result<Self, OpenbError> {
        let cut = |line: &'t str| -> Vec<&'t str> { line.split(',').map(str::trim).collect() };
        let lines = (1..).zip(text.lines());
        let mut lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let (_, head) = lines.next().ok_or(OpenbError::Empty)?;
        let columns = cut(head);
        let mut rows = Vec::new();
        for (line, text) in lines {
            let cells = cut(text);
            if cells.len() != columns.len() {
                return Err(OpenbError::Cells {
                    line,
                    cells: cells.len(),
                    columns: columns.len(),
                });
            }
            rows.push((line, cells));
        }
        Ok(Self { columns, rows })
    }

    fn has(&self, column: &str) -> bool {
        self.columns.contains(&column)
    }

    /// Each row as `read` understands it.
    fn each<T>(&self, read: impl Fn(&Row<'_, 't>) -> Result<T, OpenbError>) -> Result<Vec<T>, OpenbError> {
        let rows = self.rows.iter().map(|(line, cells)| Row {
            table: self,
            line: *line,
            cells,
        });
        rows.map(|row| read(&row)).collect()
    }
}

impl<'t> Row<'_, 't> {
    fn text(&self, column: &'static str) -> Result<&'t str, OpenbError> {
        let place = self.table.columns.iter().position(|name| *name == column);
        let cell = place.and_then(|place| self.cells.get(place));
        cell.copied().ok_or(OpenbError::NoColumn(column))
    }

    fn wrong(&self, column: &'static str, wanted: &'static str) -> OpenbError {
        OpenbError::Value {
            line: self.line,
            column,
            text: shown(self.text(column).unwrap_or_default()),
            wanted,
        }
    }

    /// A number, with zeros for decimals as some write it; none: nothing is said.
    fn number(&self, column: &'static str) -> Result<Option<u64>, OpenbError> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(None);
        }
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = Some(whole).filter(|whole| digits(whole) && decimals.bytes().all(|zero| zero == b'0'));
        let number = number.and_then(|whole| whole.parse().ok());
        let wanted = "a whole number";
        number.map(Some).ok_or_else(|| self.wrong(column, wanted))
    }

    fn amount(&self, column: &'static str) -> Result<u64, OpenbError> {
        Ok(self.number(column)?.unwrap_or(0))
    }

    fn gpus(&self, column: &'static str) -> Result<u32, OpenbError> {
        let count = u32::try_from(self.amount(column)?).ok();
        count
            .filter(|count| *count <= loadline_model::NODE_GPUS_MAX)
            .ok_or_else(|| self.wrong(column, "a number of GPUs that one node can have"))
    }

    fn memory(&self) -> Result<Bytes, OpenbError> {
        const COLUMN: &str = "memory_mib";
        let bytes = self.amount(COLUMN)?.checked_mul(1 << 20);
        bytes
            .map(Bytes)
            .ok_or_else(|| self.wrong(COLUMN, "an amount of memory"))
    }

    fn time(&self, column: &'static str) -> Result<Option<WallTime>, OpenbError> {
        let Some(seconds) = self.number(column)? else {
            return Ok(None);
        };
        let time = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| seconds.checked_mul(1_000_000));
        let time = time
            .map(WallTime)
            .ok_or_else(|| self.wrong(column, "a time in seconds"));
        time.map(Some)
    }

    /// One GPU may be shared; of several each is whole.
    fn share(&self, gpus: u32) -> Result<PerMille, OpenbError> {
        const COLUMN: &str = "gpu_milli";
        if gpus != 1 {
            return Ok(PerMille::ONE);
        }
        let share = u16::try_from(self.amount(COLUMN)?).map(PerMille).ok();
        share
            .filter(|share| *share > PerMille(0) && *share <= PerMille::ONE)
            .ok_or_else(|| self.wrong(COLUMN, "a part of a GPU, 1 to 1000"))
    }

    fn life(&self) -> Result<Option<OpenbLife>, OpenbError> {
        const DELETED: &str = "deletion_time";
        if !self.table.has("creation_time") {
            return Ok(None);
        }
        let needed = |column| {
            self.time(column)?
                .ok_or_else(|| self.wrong(column, "a time in seconds"))
        };
        let (created, deleted) = (needed("creation_time")?, needed(DELETED)?);
        let scheduled = self.time("scheduled_time")?;
        if deleted < scheduled.unwrap_or(created) {
            return Err(self.wrong(DELETED, "a time after it began"));
        }
        Ok(Some(OpenbLife {
            created,
            scheduled,
            deleted,
        }))
    }
}

/// Reads a list of nodes.
///
/// # Errors
/// The first value that cannot be, with its line and column.
pub fn read_openb_nodes(text: &str) -> Result<Vec<OpenbNode>, OpenbError> {
    Table::read(text)?.each(|row| {
        Ok(OpenbNode {
            name: row.text("sn")?.to_string(),
            cpu: MilliCpu(row.amount("cpu_milli")?),
            memory: row.memory()?,
            gpus: row.gpus("gpu")?,
            model: row.text("model")?.to_string(),
        })
    })
}

/// Reads a list of pods.
///
/// # Errors
/// The first value that cannot be, with its line and column.
pub fn read_openb_pods(text: &str) -> Result<Vec<OpenbPod>, OpenbError> {
    let table = Table::read(text)?;
    table.each(|row| {
        let gpus = row.gpus("num_gpu")?;
        let models = if table.has("gpu_spec") {
            row.text("gpu_spec")?
        } else {
            ""
        };
        let models = models.split('|').filter(|model| !model.is_empty());
        Ok(OpenbPod {
            name: row.text("name")?.to_string(),
            cpu: MilliCpu(row.amount("cpu_milli")?),
            memory: row.memory()?,
            gpus,
            share: row.share(gpus)?,
            models: models.map(String::from).collect(),
            life: row.life()?,
        })
    })
}

impl OpenbNode {
    /// As a node that lends all it has.
    #[must_use]
    pub fn lends(&self, number: u64) -> Node {
        let amounts = Amounts {
            cpu: self.cpu,
            memory: self.memory,
            gpus: self.gpus,
        };
        let mut labels = Labels::new();
        if self.gpus > 0 {
            labels.insert(MODEL.into(), as_label_value(&self.model));
        }
        let id = NodeId::from_slice(&u128::from(number).to_be_bytes());
        Node {
            id: id.unwrap_or_else(|_| unreachable!("sixteen bytes are an identity")),
            name: self.name.clone(),
            pool: "default".into(),
            state: NodeState::Ready,
            lending: true,
            traits: Arc::new(Traits {
                labels: Arc::new(labels),
                ..Traits::default()
            }),
            line: Line {
                firm: amounts,
                now: amounts,
                whole_cpus: 0,
                scratch: Bytes::ZERO,
            },
            exclusive_cpus: false,
            allow_teams: Vec::new(),
            held: HeldByTier::default(),
        }
    }
}

impl OpenbLife {
    /// How long it ran; none: it never did.
    #[must_use]
    pub fn ran(&self) -> Option<Span> {
        self.scheduled.map(|at| self.deleted.since(at))
    }

    /// How long it waited in the trace; none: it never ran.
    #[must_use]
    pub fn waited(&self) -> Option<Span> {
        self.scheduled.map(|at| at.since(self.created))
    }
}

impl OpenbPod {
    /// As a job, with when it comes; none: nobody knows when, or how long it would have run.
    #[must_use]
    pub fn work(&self, number: u64) -> Option<(WallTime, Work)> {
        let life = self.life.as_ref()?;
        let request = WorkerRequest {
            cpus: CpuRequest::Shared(self.cpu),
            memory: self.memory,
            gpus: self.gpus,
        };
        let models: BTreeSet<String> = self.models.iter().map(|model| as_label_value(model)).collect();
        let require = (self.gpus > 0 && !models.is_empty()).then(|| Requirement {
            key: MODEL.into(),
            is: Is::In(models),
        });
        let needs = Needs {
            require: require.into_iter().collect(),
            gpu_share: (self.share < PerMille::ONE).then_some(self.share),
            ..Needs::default()
        };
        let work = Work {
            needs: Arc::new(needs),
            ..Work::new(number, request, life.ran()?)
        };
        Some((life.created, work))
    }
}

/// The jobs of a list of pods in the order in which they come, numbered by their place in the list from 1 on.
#[must_use]
pub fn openb_work(pods: &[OpenbPod]) -> Vec<(WallTime, Work)> {
    let numbered = (1..).zip(pods);
    let mut work: Vec<(WallTime, Work)> = numbered.filter_map(|(number, pod)| pod.work(number)).collect();
    work.sort_by_key(|(at, work)| (*at, work.number));
    work
}

#[cfg(test)]
mod tests;
