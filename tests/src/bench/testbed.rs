//! The testbed's own cost: what every guest test pays before it begins.

use std::time::Duration;

use anyhow::Result;

use crate::bench::{Bench, BenchReport, Better, Figure, Goal};
use crate::clock;
use crate::testbed::cache::Cache;
use crate::testbed::image::Image;
use crate::testbed::{Fleet, GuestSpec};

const BOOTS: usize = 3;
const COMMANDS: usize = 30;
/// Two cores without KVM, nothing else running.
const BOOT_GOAL_S: f64 = 25.0;

pub(super) fn run(cache: &Cache) -> Result<BenchReport> {
    // The probe and the build of images are no part of a boot.
    for image in Image::STOCK {
        drop(Fleet::boot(
            cache,
            "bench-testbed",
            &[GuestSpec::new("warm", image, 2)],
        )?);
    }
    let mut bench = Bench::start("testbed")?;
    for image in Image::STOCK {
        let (mut boots, mut commands) = (Vec::new(), Vec::new());
        for _ in 0..BOOTS {
            let start = clock::now();
            let fleet = Fleet::boot(cache, "bench-testbed", &[GuestSpec::new("guest", image, 2)])?;
            boots.push(start.elapsed().as_secs_f64());
            let guest = fleet.guest("guest")?;
            guest.ok_within("systemctl is-system-running --wait", Duration::from_secs(120))?;
            for _ in 0..COMMANDS {
                let start = clock::now();
                guest.ok("true")?;
                commands.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        let boot = Figure::new(
            &format!("testbed.boot_s.{}", image.name()),
            "s",
            Better::Lower,
            &boots,
        );
        bench.add(boot.map(|figure| figure.goal(Goal::Value(BOOT_GOAL_S))))?;
        let id = format!("testbed.command_ms.{}", image.name());
        bench.add(Figure::new(&id, "ms", Better::Lower, &commands))?;
    }
    bench.finish()
}
