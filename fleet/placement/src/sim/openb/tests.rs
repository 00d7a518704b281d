//! Invented lines in the form of the trace's files.

use alloc::format;

use super::*;
use crate::planner::Policy;
use crate::sim::{Fleet, What, play};

const NODES: &str = "\
sn,cpu_milli,memory_mib,gpu,model
a,8000,16384,2,G9
b,4000,8192,0,
";

const HEAD: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n";

fn pods(rows: &str) -> Result<Vec<OpenbPod>, OpenbError> {
    read_openb_pods(&format!("{HEAD}{rows}"))
}

#[test]
fn nodes_lend_all_they_have_and_say_which_gpus() {
    let nodes = read_openb_nodes(NODES).unwrap();
    let told: Vec<_> = nodes
        .iter()
        .map(|node| (node.cpu.0, node.gpus, node.model.as_str()))
        .collect();
    assert_eq!(told, [(8000, 2, "G9"), (4000, 0, "")]);
    let node = nodes[0].lends(7);
    assert_eq!(
        (node.line.firm.memory, node.line.now.gpus),
        (Bytes::from_gib(16), 2)
    );
    assert_eq!(
        node.traits.labels.get("gpu-model").map(String::as_str),
        Some("G9")
    );
    assert!(nodes[1].lends(8).traits.labels.is_empty());
}

#[test]
fn shares_models_and_times_become_a_jobs() {
    let rows = "\
late,1500,1024,1,250,G9|T1,BE,Running,100,160,130
whole,4000.0,2048,2,1000,,LS,Failed,50,90,50

never,1000,1024,0,0,,LS,Pending,10,20,
";
    let pods = pods(rows).unwrap();
    let life = pods[0].life.unwrap();
    assert_eq!(
        (life.waited(), life.ran()),
        (Some(Span::from_secs(30)), Some(Span::from_secs(30)))
    );
    let work = openb_work(&pods);
    let told: Vec<_> = work
        .iter()
        .map(|(at, work)| (at.0 / 1_000_000, work.number, work.runs.as_secs()))
        .collect();
    assert_eq!(
        told,
        [(50, 2, 40), (100, 1, 30)],
        "in order, without the one that never ran"
    );
    let (_, late) = &work[1];
    assert_eq!(late.request.gpus, 1);
    assert_eq!(late.needs.gpu_share, Some(PerMille(250)));
    assert_eq!(late.needs.require[0].to_string(), "gpu-model in (G9,T1)");
    assert_eq!((work[0].1.request.gpus, work[0].1.needs.gpu_share), (2, None));
    assert_eq!(late.time, None);
}

#[test]
fn variants_without_times_are_lists_of_what_is_asked_for() {
    let text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1000,1024,1,500\n";
    let pods = read_openb_pods(text).unwrap();
    assert_eq!((pods[0].share, pods[0].life), (PerMille(500), None));
    assert_eq!(openb_work(&pods), []);
}

#[test]
fn what_cannot_be_is_named_with_its_line_and_column() {
    let row = |changed: &str| pods(&format!("ok,1,1,0,0,,LS,Running,1,2,1\n{changed}\n"));
    for (changed, told) in [
        (
            "a,x,1,0,0,,LS,Running,1,2,1",
            "line 3, column cpu_milli: `x` is not a whole number",
        ),
        (
            "a,-1,1,0,0,,LS,Running,1,2,1",
            "line 3, column cpu_milli: `-1` is not a whole number",
        ),
        (
            "a,1.5,1,0,0,,LS,Running,1,2,1",
            "line 3, column cpu_milli: `1.5` is not a whole number",
        ),
        (
            "a,1,99999999999999999,0,0,,LS,Running,1,2,1",
            "line 3, column memory_mib: `99999999999999999` is not an amount of memory",
        ),
        (
            "a,1,1,1000,0,,LS,Running,1,2,1",
            "line 3, column num_gpu: `1000` is not a number of GPUs that one node can have",
        ),
        (
            "a,1,1,1,1001,,LS,Running,1,2,1",
            "line 3, column gpu_milli: `1001` is not a part of a GPU, 1 to 1000",
        ),
        (
            "a,1,1,1,0,,LS,Running,1,2,1",
            "line 3, column gpu_milli: `0` is not a part of a GPU, 1 to 1000",
        ),
        (
            "a,1,1,0,0,,LS,Running,,2,1",
            "line 3, column creation_time: `` is not a time in seconds",
        ),
        (
            "a,1,1,0,0,,LS,Running,1,2,3",
            "line 3, column deletion_time: `2` is not a time after it began",
        ),
        ("a,1,1,0,0,,LS,Running,1,2", "line 3: 10 values for 11 columns"),
    ] {
        assert_eq!(row(changed).unwrap_err().to_string(), told);
    }
    let long = row(&format!("a,{},1,0,0,,LS,Running,1,2,1", "x".repeat(10_000))).unwrap_err();
    assert!(long.to_string().len() < 200, "{long}");
    assert_eq!(read_openb_nodes(""), Err(OpenbError::Empty));
    let headless = read_openb_nodes("sn,cpu_milli,memory_mib,gpu\na,1,1,0\n");
    assert_eq!(headless, Err(OpenbError::NoColumn("model")));
}

#[test]
fn the_trace_is_played_by_the_real_planner() {
    // Two shares of one GPU and one whole: the third of the whole ones waits for the first to end.
    let rows = "\
one,1000,1024,1,500,,LS,Running,0,100,0
two,1000,1024,1,500,,LS,Running,0,100,0
three,1000,1024,1,1000,G9,LS,Running,10,60,10
four,1000,1024,1,1000,G9,LS,Running,20,50,20
";
    let mut fleet = Fleet::new(Policy::default());
    for (number, node) in (1..).zip(read_openb_nodes(NODES).unwrap()) {
        fleet.put_node(node.lends(number)).unwrap();
    }
    let work = openb_work(&pods(rows).unwrap());
    let mut started = Vec::new();
    play(&mut fleet, &work, &mut |_, happened| {
        started.extend(
            happened
                .filter(|it| it.what == What::Started)
                .map(|it| (it.number, it.at.0 / 1_000_000)),
        );
    });
    assert_eq!(started, [(1, 0), (2, 0), (3, 10), (4, 60)]);
}
