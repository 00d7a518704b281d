//! Several guests on one LAN, booted at once, ended together.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::testbed::accel;
use crate::testbed::cache::{self, Cache, RunDir};
use crate::testbed::guest::{Guest, Surroundings, random_u16};
use crate::testbed::image::Image;
use crate::testbed::qemu::lan_address;
use crate::testbed::spec::GuestSpec;

/// Guests that know each other by name. Dropping it ends them; so does the end of this process, however it comes.
#[derive(Debug)]
pub struct Fleet {
    // Guests end before their folder goes.
    guests: Vec<Guest>,
    run: RunDir,
}

impl Fleet {
    /// Boots the guests at once and waits until each can be spoken to.
    ///
    /// # Errors
    /// When an image cannot be built or a guest does not come up.
    pub fn boot(cache: &Cache, name: &str, specs: &[GuestSpec]) -> Result<Self> {
        ensure!(
            !specs.is_empty() && specs.len() <= 250,
            "a fleet has 1 to 250 guests"
        );
        for (place, spec) in specs.iter().enumerate() {
            spec.check()?;
            ensure!(
                specs[..place].iter().all(|other| other.name != spec.name),
                "two guests named {}",
                spec.name
            );
        }
        for dead in cache::sweep(cache)? {
            eprintln!("testbed: cleared what was left of {dead}");
        }
        let run = RunDir::take(cache, name)?;
        let mut images = Vec::new();
        for image in Image::ALL {
            if specs.iter().any(|spec| spec.image == image) {
                images.push((image, image.ensure(cache)?));
            }
        }
        let accel = accel::choose(cache, &images.first().context("no image")?.1)?;
        let hosts: Vec<String> = (1..)
            .zip(specs)
            .map(|(number, spec)| format!("{}:{}", lan_address(number), spec.name))
            .collect();
        let around = Surroundings {
            run: run.path().to_owned(),
            accel,
            lan: random_lan()?,
            hosts: hosts.join(","),
        };
        let mut fleet = Self {
            guests: Vec::new(),
            run,
        };
        for (number, spec) in (1..).zip(specs) {
            let Some((_, files)) = images.iter().find(|(image, _)| *image == spec.image) else {
                bail!("no image for {}", spec.name);
            };
            fleet.guests.push(Guest::create(
                spec.clone(),
                number,
                files.clone(),
                around.clone(),
            )?);
        }
        for guest in &fleet.guests {
            guest.start()?;
        }
        fleet.each(|guest| guest.await_up())?;
        Ok(fleet)
    }

    /// A guest by name.
    ///
    /// # Errors
    /// When the fleet has none of that name.
    pub fn guest(&self, name: &str) -> Result<&Guest> {
        self.guests
            .iter()
            .find(|guest| guest.name() == name)
            .with_context(|| {
                let names: Vec<&str> = self.guests.iter().map(Guest::name).collect();
                format!("no guest {name}; there are {}", names.join(", "))
            })
    }

    /// All guests.
    #[must_use]
    pub fn guests(&self) -> &[Guest] {
        &self.guests
    }

    /// Folder of consoles and sockets.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// Does something to all guests at once; fails with the first error after all have ended.
    ///
    /// # Errors
    /// What the action gives.
    pub fn each(&self, action: impl Fn(&Guest) -> Result<()> + Sync) -> Result<()> {
        let action = &action;
        let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .guests
                .iter()
                .map(|guest| scope.spawn(move || action(guest)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        outcomes.into_iter().collect()
    }
}

/// Two things at once; fails with the error of the first, or else of the other, after both have ended.
///
/// # Errors
/// What they give.
pub fn both<A: Send, B>(
    one: impl FnOnce() -> Result<A> + Send,
    other: impl FnOnce() -> Result<B>,
) -> Result<(A, B)> {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        let one = one
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((one?, other?))
    })
}

/// A multicast group and port of the fleet's own, so that fleets on one host do not hear each other.
fn random_lan() -> Result<String> {
    let [high, low] = random_u16()?.to_be_bytes();
    Ok(format!("230.77.{high}.{low}:{}", 17_000 + random_u16()? % 2_000))
}
