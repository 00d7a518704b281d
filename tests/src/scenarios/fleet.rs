//! The whole fleet, installed from packages: what its users and its owners rely on.
//!
//! One fleetd guest, one node as Debian 12 ships it (systemd 252, kernel 6.1), one as Debian 13 does (systemd 257,
//! kernel 6.12, two NUMA nodes). One boot for all scenarios; each leaves no job behind.

mod affinity;
mod antagonists;
mod broken;
mod crash;
mod disks;
mod door;
mod ends;
mod escapes;
mod full;
mod headroom;
mod late;
mod lend;
mod mistakes;
mod operator;
mod outage;
mod partition;
mod person;
mod protect;
mod prove;
mod reloads;
mod said;
mod shadow;
mod shapes;
mod sharing;
mod shm;
mod store;

use std::path::Path;

use anyhow::{Context, Result};

use crate::deploy::{self, FLEET_GUEST, Packages};
use crate::scenarios::Suite;
use crate::testbed::image::Image;
use crate::testbed::{Fleet, Guest, GuestSpec};

/// The node with the older pair.
const OLD: &str = "old";
/// The node with the newer pair.
const NEW: &str = "new";

pub(super) const SUITE: Suite = Suite {
    name: "fleet",
    guests,
    prepare,
    scenarios: &[
        ("a_job_s_words_and_exit_code_come_back", lend::words_and_code),
        (
            "mistakes_get_one_clear_sentence_and_change_nothing",
            mistakes::at_the_command_line,
        ),
        ("disks_go_by_weight_where_the_owner_says_so", disks::by_weight),
        (
            "what_journald_took_up_late_is_read_too",
            late::written_while_journald_stood_still,
        ),
        ("thirty_seconds_apart_nothing_is_lost_or_double", partition::short),
        (
            "three_minutes_apart_replace_counts_one_and_wait_waits",
            partition::long,
        ),
        (
            "two_teams_share_a_node_by_weight_quota_and_rank",
            sharing::two_teams,
        ),
        ("limits_in_the_kernel_are_those_that_were_meant", lend::limits),
        ("a_worker_is_its_user_and_shut_in", lend::shut_in),
        (
            "beyond_its_memory_it_is_told_so_with_peak_and_limit",
            lend::out_of_memory,
        ),
        ("exclusive_workers_never_share_a_cpu", lend::exclusive),
        (
            "lent_work_yields_to_production_and_gets_its_share_back",
            headroom::rises_and_calms,
        ),
        (
            "a_node_says_whether_its_kernel_leaves_lent_work_at_once",
            headroom::kernel_leaves_lent_work,
        ),
        (
            "of_a_node_s_own_programs_only_the_loop_goes_before",
            headroom::others_step_back,
        ),
        (
            "prove_from_the_fleet_runs_beside_the_warden_and_ends_when_told",
            prove::from_the_fleet,
        ),
        (
            "what_was_done_to_a_worker_stands_in_its_own_log",
            said::in_its_own_log,
        ),
        (
            "time_limit_and_cancel_end_with_their_own_reason",
            lend::ended_early,
        ),
        (
            "squeezed_workers_end_within_ten_seconds_and_pid_1_waits_for_none",
            ends::under_need,
        ),
        ("no_door_of_another_daemon_is_open_to_a_worker", escapes::doors),
        (
            "what_a_person_s_logins_may_use_is_held_meanwhile",
            escapes::logins,
        ),
        (
            "a_flood_of_lines_calls_and_look_ups_is_lent_work_s_own",
            escapes::floods,
        ),
        ("shared_memory_is_bounded_charged_and_freed", shm::shared_memory),
        (
            "memory_antagonists_take_nothing_of_production",
            antagonists::memory,
        ),
        ("a_fork_bomb_leaves_production_its_processes", antagonists::forks),
        (
            "a_minute_of_reloads_and_a_package_lose_no_limit",
            reloads::back_to_back,
        ),
        (
            "production_by_name_keeps_its_memory_and_its_promise",
            protect::floors_and_promises,
        ),
        ("a_node_that_only_watches_touches_nothing", shadow::untouched),
        (
            "jobs_go_where_labels_taints_spread_and_others_let_them",
            shapes::asked_for,
        ),
        ("a_token_works_once_for_its_own_name_in_time", mistakes::tokens),
        ("a_wrong_node_toml_keeps_the_last_good_one", mistakes::node_toml),
        (
            "killed_restarted_reinstalled_reloaded_and_the_worker_runs_on",
            crash::programs,
        ),
        ("port_7717_lets_in_whom_it_should_and_nobody_else", door::table),
        ("a_broken_ledger_record_is_set_aside_and_named", broken::ledger),
        ("a_broken_spool_is_set_aside_and_named", broken::spool),
        ("a_broken_store_is_set_aside_or_refused_and_named", broken::store),
        ("a_full_disk_of_a_node_loses_nothing", full::node),
        ("a_full_disk_of_fleetd_refuses_and_loses_nothing", full::fleetd),
        ("two_fleetd_on_one_store_are_one_too_many", store::second),
        ("an_empty_store_stops_no_worker", store::empty),
        ("an_older_store_stops_no_worker_and_goes_on", store::older),
        (
            "five_minutes_without_fleetd_lose_no_node_and_tell_events_once",
            outage::five_minutes,
        ),
        ("a_reload_of_systemd_changes_no_worker", crash::reloads),
        ("a_reboot_ends_attempts_once_and_they_are_retried", crash::reboot),
        ("a_power_cut_of_the_node_ends_attempts_once", crash::node_power),
        ("a_power_cut_of_fleetd_loses_no_job", crash::fleet_power),
        ("an_old_kernel_keeps_production_s_own_affinity", affinity::kept),
        (
            "removal_refuses_or_drains_and_the_work_goes_on_later",
            crash::removed,
        ),
    ],
    waiting: &[
        "three_minutes_apart_replace_counts_one_and_wait_waits",
        "five_minutes_without_fleetd_lose_no_node_and_tell_events_once",
    ],
    recover,
};

/// For `ends`. From the boot on: to switch it changes the scheduler's code under its feet, and an emulated guest panicked
/// then, once, at a breakpoint that was gone from memory already (`int3`, QEMU 10.0).
const WAITS_COUNTED: &str = "schedstats=enable";

/// As the warden asks of a machine's owner. The other node's kernel is as its distribution delivers it.
const PREEMPTED: &str = "preempt=full";

fn guests() -> Vec<GuestSpec> {
    vec![
        GuestSpec::new(FLEET_GUEST, Image::Debian13, 1),
        GuestSpec::new(OLD, Image::Debian12, 2).kernel_word(WAITS_COUNTED),
        GuestSpec::new(NEW, Image::Debian13, 4)
            .numa(2)
            .memory_mib(2048)
            .kernel_word(WAITS_COUNTED)
            .kernel_word(PREEMPTED),
    ]
}

fn prepare(fleet: &Fleet) -> Result<()> {
    let packages = Packages::of(Path::new("target/packages"))?;
    deploy::start_fleet(fleet, &packages)?;
    deploy::add_person(fleet.guest(FLEET_GUEST)?, "alice", "user")
}

/// Does the same on both nodes, at the same time: most of it waits.
fn on_both(fleet: &Fleet, action: impl Fn(&Guest) -> Result<()> + Sync) -> Result<()> {
    fleet.each(|guest| match guest.name() {
        OLD | NEW => action(guest).with_context(|| format!("on {}", guest.name())),
        _ => Ok(()),
    })
}

/// All programs up, all nodes ready and lending, no job left.
fn recover(fleet: &Fleet) -> Result<()> {
    fleet.each(|guest| {
        let programs = match guest.name() {
            FLEET_GUEST => "fleetd",
            _ => "loadline-warden loadline-agent",
        };
        guest.ok(&format!("systemctl start {programs}")).map(drop)
    })?;
    let operator = operator::Operator::of(fleet)?;
    operator.all_ready()?;
    operator.cancel_all()
}
