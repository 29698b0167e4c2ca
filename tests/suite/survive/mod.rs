//! Entries survive faults of the database, the end of processes, and the loss of power.

#[cfg(target_os = "linux")]
mod acts;
mod adoption;
#[cfg(unix)]
mod copies;
mod crash_points;
mod directory;
mod faults;
#[cfg(target_os = "linux")]
mod gone;
#[cfg(target_os = "linux")]
mod hangs;
mod journal;
mod ledger;
#[cfg(feature = "testing")]
mod periods;
#[cfg(target_os = "linux")]
mod power_loss;
mod processes;
#[cfg(target_os = "linux")]
mod room;
mod service;
#[cfg(target_os = "linux")]
mod waiting;
