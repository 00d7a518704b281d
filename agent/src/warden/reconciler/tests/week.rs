//! Production's week comes in: it says who else may start, and takes nothing from who runs.

use loadline_model::{Bytes, CpuRequest, MilliCpu, Tier};
use loadline_policy::week::Known;
use loadline_proto::types::v1::{AttemptPhase, EndReason};

use super::rig::{Rig, node};
use crate::warden::reconciler::Command;
use crate::warden::wire::forge::Wanted;

fn shared(tier: Tier, cpu: u64) -> Wanted {
    Wanted {
        cpus: CpuRequest::Shared(MilliCpu(cpu)),
        tier,
        ..Wanted::default()
    }
}

#[tokio::test(start_paused = true)]
async fn who_runs_stays_and_no_more_standard_work_starts() {
    let mut rig = Rig::new().await;
    let runs = rig.running(&Wanted::default()).await;
    let limits = rig.snapshot().await.slice_limits;
    let ruled = rig.ruled.lock().unwrap().len();
    // 4000 - 1.15 × 2500 - 800 leaves 325m, and the worker has a CPU.
    let week = Known {
        cpu: Some(MilliCpu(2500)),
        memory: Some(Bytes::from_mib(256)),
    };
    rig.command(Command::Week(week)).await;
    let refused = rig.start(&shared(Tier::Standard, 100)).await;
    let ended = rig.ended(refused).await;
    assert_eq!(ended.reason(), EndReason::RefusedForNow);
    assert_eq!(
        ended.detail,
        "it asks for 100m CPUs and this node lends 0 now (the free part of its firm line: 99 % of the time production \
         used up to 2500m CPUs in its last week)"
    );
    rig.running(&shared(Tier::Burst, 100)).await;
    let snapshot = rig.snapshot().await;
    assert_eq!(snapshot.node.line.cpu.firm, MilliCpu(325));
    assert_eq!(snapshot.node.line.most().cpu, MilliCpu(2200));
    assert_eq!(snapshot.slice_limits, limits, "no limit follows from it");
    assert_eq!(
        rig.ruled.lock().unwrap().len(),
        ruled,
        "nor anything for the brake"
    );
    let told = rig.attempt_events(runs);
    assert!(
        told.iter().all(|state| state.phase() == AttemptPhase::Running),
        "{told:?}"
    );
    // Another policy of the owner's does not forget it.
    let mut other = node();
    other.policy.reserve.gpus = 1;
    rig.replace(other).await;
    assert_eq!(rig.snapshot().await.node.line.cpu.firm, MilliCpu(325));
    rig.command(Command::Week(Known::default())).await;
    rig.running(&shared(Tier::Standard, 100)).await;
}
