//! Readers: ends, cancellation, back-pressure, and the question whether everything was written.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use super::follow::{Outputs, OutputsError};
use super::*;
use crate::host::journal::{Entry, JournalError, JournalReader, Writer};
use crate::host::journal_stream::Output;
use crate::host::journal_unread::Unread;

/// A journal under the test's hand.
#[derive(Debug, Default)]
struct Script {
    entries: Mutex<VecDeque<Entry>>,
    probes: Mutex<u64>,
    opened: Mutex<Vec<(String, Start)>>,
    /// Lines that journald still has to write when it is asked: one before each answer, or none.
    late: Mutex<VecDeque<Option<Entry>>>,
    /// What the kernel says of journald's streams, one look after the other, the last for ever; nothing: it does not.
    unread: Mutex<VecDeque<Unread>>,
    /// What is in the journal when the warden says that all was read.
    taken_up: Mutex<Vec<Entry>>,
    /// What lies in a file that only who opens the journal later has.
    in_a_new_file: Mutex<Vec<Entry>>,
    /// The warden does not say that journald has read everything.
    behind: bool,
}

#[derive(Debug)]
struct ScriptedOutputs(Arc<Script>);

impl Outputs for ScriptedOutputs {
    fn until_read(&self, _: Duration) -> Result<(), OutputsError> {
        if self.0.behind {
            return Err(OutputsError::Behind);
        }
        let taken_up = std::mem::take(&mut *self.0.taken_up.lock().unwrap());
        self.0.entries.lock().unwrap().extend(taken_up);
        Ok(())
    }
}

#[derive(Debug, Clone, Default)]
struct ScriptedJournal(Arc<Script>);

struct ScriptedReader(Arc<Script>);

impl WorkerJournal for ScriptedJournal {
    fn open(&self, unit: &str, start: &Start) -> Result<Box<dyn JournalReader>, JournalError> {
        let mut opened = self.0.opened.lock().unwrap();
        if !opened.is_empty() {
            let new = std::mem::take(&mut *self.0.in_a_new_file.lock().unwrap());
            self.0.entries.lock().unwrap().extend(new);
        }
        opened.push((unit.to_owned(), start.clone()));
        Ok(Box::new(ScriptedReader(Arc::clone(&self.0))))
    }
}

impl JournalReader for ScriptedReader {
    fn next(&mut self) -> Result<Option<Entry>, JournalError> {
        Ok(self.0.entries.lock().unwrap().pop_front())
    }

    fn wait(&mut self, _: Duration) -> Result<(), JournalError> {
        std::thread::park_timeout(Duration::from_millis(5));
        Ok(())
    }

    fn unread(&mut self) -> io::Result<Unread> {
        let mut looks = self.0.unread.lock().unwrap();
        if looks.len() > 1 {
            return Ok(looks.pop_front().unwrap());
        }
        looks
            .front()
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn probe(&mut self) -> Result<u64, JournalError> {
        let mut probes = self.0.probes.lock().unwrap();
        *probes += 1;
        let mut entries = self.0.entries.lock().unwrap();
        // journald serves the worker's stream before it gets to the question.
        entries.extend(self.0.late.lock().unwrap().pop_front().flatten());
        entries.push_back(Entry::Probe(*probes));
        Ok(*probes)
    }
}

fn line(n: usize, output: Output) -> Entry {
    entry(n, Writer::Worker(output))
}

fn entry(n: usize, writer: Writer) -> Entry {
    Entry::Line {
        at_us: i64::try_from(n).unwrap(),
        writer,
        text: format!("line {n}").into_bytes(),
        cursor: format!("c{n}"),
    }
}

fn desk(script: &Arc<Script>, lane: mpsc::Sender<Up>) -> LogDesk {
    let socket = "/nonexistent/warden.sock".into();
    let clock = Arc::new(crate::agent::SystemClock);
    let warden = Arc::new(WardenLink::new(socket, Duration::from_secs(1), clock));
    let mut desk = LogDesk::new(Arc::new(ScriptedJournal(Arc::clone(script))), warden, lane);
    desk.outputs = Arc::new(ScriptedOutputs(Arc::clone(script)));
    desk
}

fn request(id: u64, follow: bool) -> LogRequest {
    let attempt = loadline_model::AttemptId::from_slice(&[3; 16]).unwrap();
    LogRequest {
        id,
        attempt,
        follow,
        tail: None,
        after_cursor: None,
    }
}

async fn chunk(lane: &mut mpsc::Receiver<Up>) -> LogChunk {
    match tokio::time::timeout(Duration::from_secs(20), lane.recv())
        .await
        .unwrap()
    {
        Some(Up::Logs(chunk)) => chunk,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn lines_come_in_order_with_their_output_and_then_the_end() {
    let script = Arc::new(Script::default());
    script.entries.lock().unwrap().extend([
        line(1, Output::Stdout),
        line(2, Output::Stderr),
        entry(3, Writer::Warden),
    ]);
    let (lane, mut sent) = mpsc::channel(1);
    let mut desk = desk(&script, lane);
    desk.begin(request(1, false)).await;
    let first = chunk(&mut sent).await;
    let told: Vec<(bool, bool, &[u8])> = first
        .lines
        .iter()
        .map(|line| (line.stderr, line.by_warden, line.text.as_slice()))
        .collect();
    assert_eq!(
        told,
        [
            (false, false, b"line 1".as_slice()),
            (true, false, b"line 2"),
            (true, true, b"line 3"),
        ]
    );
    assert_eq!((first.cursor.as_str(), first.end), ("c3", false));
    let last = chunk(&mut sent).await;
    assert_eq!((last.lines.len(), last.end, last.error.as_str()), (0, true, ""));
    assert_eq!(last.cursor, "c3", "the place stays known");
    let opened = script.opened.lock().unwrap();
    assert_eq!(opened[0].0, format!("loadline-w-{}.service", "03".repeat(16)));
}

/// The lines that reach the fleet before the end, and how often journald was asked, where the kernel tells nothing.
async fn read_to_the_end(late: impl IntoIterator<Item = Option<Entry>>) -> (usize, u64) {
    let script = Arc::new(Script::default());
    script.late.lock().unwrap().extend(late);
    read_all(script).await
}

async fn read_all(script: Arc<Script>) -> (usize, u64) {
    let (lane, mut sent) = mpsc::channel(8);
    desk(&script, lane).begin_and_keep(request(1, false)).await;
    let mut lines = 0;
    loop {
        let chunk = chunk(&mut sent).await;
        lines += chunk.lines.len();
        if chunk.end {
            assert_eq!(chunk.error, "");
            let probes = *script.probes.lock().unwrap();
            return (lines, probes);
        }
    }
}

#[tokio::test]
async fn the_end_waits_for_what_the_kernel_knows_to_be_unread() {
    let look = |waiting, streams: &[u8]| Unread {
        waiting: Some(waiting),
        ended: streams.iter().map(|&stream| [stream; 8]).collect(),
    };
    let script = Arc::new(Script::default());
    let looks = [
        look(1, &[]),
        look(0, &[]),
        look(0, &[7]),
        look(0, &[7]),
        look(0, &[8]),
    ];
    script.unread.lock().unwrap().extend(looks);
    let lines = [line(1, Output::Stdout), line(2, Output::Stderr)];
    script.taken_up.lock().unwrap().extend(lines);
    assert_eq!(read_all(script).await, (2, 1), "all lines, and one question");
}

#[tokio::test]
async fn a_file_that_journald_made_meanwhile_is_read_too() {
    for before in [vec![], vec![line(1, Output::Stdout)]] {
        let script = Arc::new(Script::default());
        script.unread.lock().unwrap().push_back(nothing_waits());
        let place = match before.len() {
            0 => Start::First,
            _ => Start::After("c1".into()),
        };
        let known = before.len();
        script.entries.lock().unwrap().extend(before);
        let new = [line(2, Output::Stdout), line(3, Output::Stderr)];
        script.in_a_new_file.lock().unwrap().extend(new);
        assert_eq!(read_all(Arc::clone(&script)).await, (known + 2, 1));
        assert_eq!(
            script.opened.lock().unwrap().last().unwrap().1,
            place,
            "and no line twice"
        );
    }
}

#[tokio::test]
async fn a_worker_that_never_stops_writing_does_not_keep_a_log_from_ending() {
    let script = Arc::new(Script::default());
    script.unread.lock().unwrap().push_back(nothing_waits());
    let late = (0..100).map(|n| Some(line(n, Output::Stdout)));
    script.late.lock().unwrap().extend(late);
    assert_eq!(read_all(script).await, (1, 1));
}

fn nothing_waits() -> Unread {
    Unread {
        waiting: Some(0),
        ..Unread::default()
    }
}

#[tokio::test]
async fn a_log_that_may_lack_its_end_says_so() {
    let script = Arc::new(Script {
        behind: true,
        ..Script::default()
    });
    script.unread.lock().unwrap().push_back(nothing_waits());
    script.entries.lock().unwrap().push_back(line(1, Output::Stdout));
    let (lane, mut sent) = mpsc::channel(8);
    desk(&script, lane).begin_and_keep(request(1, false)).await;
    assert_eq!(chunk(&mut sent).await.lines.len(), 1, "what is there is shown");
    let last = chunk(&mut sent).await;
    assert!(
        last.end && last.error.contains("the last lines may be missing"),
        "{last:?}"
    );
}

#[tokio::test]
async fn the_end_waits_for_lines_that_journald_still_had() {
    assert_eq!(
        read_to_the_end([]).await,
        (0, 4),
        "four quiet answers are the end"
    );
    let two = [line(1, Output::Stdout), line(2, Output::Stdout)];
    assert_eq!(read_to_the_end(two.map(Some)).await, (2, 6));
}

#[tokio::test]
async fn answers_that_overtake_a_line_do_not_hide_it() {
    for overtaken in 1..4 {
        let late = (0..overtaken)
            .map(|_| None)
            .chain([Some(line(1, Output::Stdout))]);
        let (lines, probes) = read_to_the_end(late).await;
        assert_eq!(lines, 1, "{overtaken} answers came before the line");
        assert_eq!(probes, overtaken + 5);
    }
}

#[tokio::test]
async fn places_to_begin_are_passed_on() {
    let script = Arc::new(Script::default());
    let (lane, mut sent) = mpsc::channel(8);
    let mut desk = desk(&script, lane);
    for (tail, after_cursor) in [(None, None), (Some(5), None), (Some(5), Some("c9".to_owned()))] {
        desk.begin(LogRequest {
            tail,
            after_cursor,
            ..request(1, false)
        })
        .await;
        assert!(chunk(&mut sent).await.end);
        desk.cancel(1);
    }
    let opened = script.opened.lock().unwrap();
    let starts: Vec<&Start> = opened.iter().map(|(_, start)| start).collect();
    let places = [Start::First, Start::Last(5), Start::After("c9".into())];
    // Twice each: while it lasts, and once more at the end.
    let twice: Vec<&Start> = places.iter().flat_map(|place| [place, place]).collect();
    assert_eq!(starts, twice);
}

#[tokio::test]
async fn a_cancelled_reader_stops_and_frees_its_place() {
    let script = Arc::new(Script::default());
    let (lane, mut sent) = mpsc::channel(1);
    let mut desk = desk(&script, lane);
    // The warden is silent, so the attempt is never known to have ended.
    for id in 0..16 {
        desk.begin(request(id, true)).await;
    }
    desk.begin(request(99, true)).await;
    let refused = chunk(&mut sent).await;
    assert!(
        refused.end && refused.error.contains("16 logs already"),
        "{}",
        refused.error
    );
    desk.cancel(3);
    desk.begin(request(100, true)).await;
    script.entries.lock().unwrap().push_back(line(1, Output::Stdout));
    assert_eq!(chunk(&mut sent).await.lines.len(), 1, "the others still read");
}

#[tokio::test]
async fn readers_wait_for_a_slow_fleet_and_end_with_the_session() {
    let script = Arc::new(Script::default());
    script
        .entries
        .lock()
        .unwrap()
        .extend((0..10_000).map(|n| line(n, Output::Stdout)));
    let (lane, mut sent) = mpsc::channel(1);
    let mut desk = desk(&script, lane);
    desk.begin(request(1, true)).await;
    let first = chunk(&mut sent).await;
    assert!(first.lines.len() <= 256, "{}", first.lines.len());
    let left = script.entries.lock().unwrap().len();
    assert!(left > 9000, "the rest waits in the journal: {left}");
    drop(sent);
    drop(desk);
    for _ in 0..2000 {
        if Arc::strong_count(&script) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the reader's thread is still there");
}

impl LogDesk {
    /// Serves one request while the test holds nothing but its lane.
    async fn begin_and_keep(mut self, request: LogRequest) {
        self.begin(request).await;
        std::mem::forget(self);
    }
}
