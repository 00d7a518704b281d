//! What fleetd tells the monitoring on its loopback port 7720: metrics, health, and the list of what to scrape.

mod metrics;

pub use metrics::Metrics;
