//! Identifies this process and its machine, and decides whether another process of the machine is dead.

use std::path::Path;

/// A process, and the place of its queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The boot of the machine, and the namespaces in which the ID and the start time of a process count. `None` where
    /// these are not known: then nobody can say whether the process is dead.
    pub(crate) host: Option<String>,
    /// The ID and the start time of the process.
    pub(crate) process: Option<String>,
    /// The directory of its journals, or [`MEMORY`](Self::MEMORY). `None` if the path is no text.
    pub(crate) home: Option<String>,
    /// The meaning of the directory's path: the mounts that the process sees.
    pub(crate) mounts: Option<String>,
    /// The directory in which `home` lies.
    pub(crate) parent: Option<String>,
}

impl Origin {
    /// The home of a queue in memory.
    pub(crate) const MEMORY: &str = "memory";

    /// This process, with its journals in this directory, or with a queue in memory.
    pub(crate) fn current(home: Option<&Path>) -> Self {
        let own = Self {
            home: home.map_or_else(|| Some(Self::MEMORY.to_owned()), |home| home.to_str().map(str::to_owned)),
            ..Self::default()
        };
        #[cfg(target_os = "linux")]
        if let Some((host, process)) = linux::current() {
            let (mounts, parent) = home.map(linux::place_of).unwrap_or_default();
            return Self { host: Some(host), process: Some(process), mounts, parent, ..own };
        }
        own
    }

    /// Whether the journals of `other` are, or were, in the same directory as those of this process.
    pub(crate) fn shares_home(&self, other: &Self) -> bool {
        let same = |own: &Option<String>, other: &Option<String>| own.is_some() && own == other;
        same(&self.home, &other.home)
            && (same(&self.mounts, &other.mounts) || same(&self.parent, &other.parent))
    }

    /// Whether both are known, and `other` was started before the machine was that this process runs on, or on another
    /// one. If `other` can only run on this machine, it is dead then.
    pub(crate) fn is_of_another_boot(&self, other: &Self) -> bool {
        let boot = |origin: &Self| origin.host.as_ref()?.split(' ').next().map(str::to_owned);
        boot(self).zip(boot(other)).is_some_and(|(own, other)| own != other)
    }

    /// Whether `other` is certain to be dead. False if that is not known.
    pub(crate) fn knows_dead(&self, other: &Self) -> bool {
        #[cfg(target_os = "linux")]
        if let (Some(host), Some(process)) = (&self.host, &other.process) {
            return other.host.as_ref() == Some(host) && linux::is_dead(process) == Some(true);
        }
        let _ = other;
        false
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

    /// The part of `/proc/ID/stat` that says which process it is, and whether it runs.
    struct Stat {
        id: i32,
        state: char,
        threads: u32,
        /// Ticks since the boot.
        started: u64,
    }

    fn stat(of: &str) -> io::Result<Stat> {
        let text = String::from_utf8_lossy(&fs::read(format!("/proc/{of}/stat"))?).into_owned();
        // The name of the program is in parentheses, and may hold any byte.
        let parsed = text.rsplit_once(')').and_then(|(before, after)| {
            let id = before.split(' ').next()?.parse().ok()?;
            let fields: Vec<&str> = after.split_ascii_whitespace().collect();
            let field = |number: usize| fields.get(number - 3).copied();
            Some(Stat {
                id,
                state: field(3)?.chars().next()?,
                threads: field(20)?.parse().ok()?,
                started: field(22)?.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The host and the process.
    pub(super) fn current() -> Option<(String, String)> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = |kind: &str| {
            let namespace = fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
            Some(namespace.to_str()?.to_owned())
        };
        let (ids, times) = (namespace("pid")?, namespace("time").unwrap_or_default());
        // Another `/proc` than that of the process's own namespace counts processes differently.
        let own = stat("self").ok().filter(|own| i64::from(own.id) == i64::from(std::process::id()))?;
        Some((format!("{} {ids} {times}", boot.trim()), format!("{}:{}", own.id, own.started)))
    }

    /// The mounts, and the parent of the directory.
    pub(super) fn place_of(home: &Path) -> (Option<String>, Option<String>) {
        let mounts = fs::read_link("/proc/self/ns/mnt").ok();
        let mounts = mounts.and_then(|mounts| Some(mounts.to_str()?.to_owned()));
        let parent = home.parent().and_then(|parent| fs::metadata(parent).ok());
        (mounts, parent.map(|parent| format!("{}:{}", parent.dev(), parent.ino())))
    }

    /// `None`: it is not known.
    pub(super) fn is_dead(process: &str) -> Option<bool> {
        let (id, started) = process.split_once(':')?;
        let started: u64 = started.parse().ok()?;
        let id: i32 = id.parse().ok().filter(|id| *id > 0)?;
        match stat(&id.to_string()) {
            // One that has ended, and whose parent has not asked for its status.
            Ok(found) if found.started == started => {
                Some(matches!(found.state, 'Z' | 'X') && found.threads <= 1)
            }
            Ok(_) => Some(true),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                // `/proc` may hide the processes of other users.
                let id = rustix::process::Pid::from_raw(id)?;
                match rustix::process::test_kill_process(id) {
                    Err(rustix::io::Errno::SRCH) => Some(true),
                    Ok(()) | Err(_) => None,
                }
            }
            Err(_) => None,
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_dead_once_it_was_killed_and_nobody_else_is() {
        let own = Origin::current(None);
        assert!(!own.knows_dead(&own));
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let started = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap();
        let origin = Origin { process: Some(format!("{}:{started}", child.id())), ..own.clone() };
        assert!(!own.knows_dead(&origin));
        child.kill().unwrap();
        // Before it is waited for it is a zombie, in whatever time the kernel takes.
        while !own.knows_dead(&origin) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(own.knows_dead(&origin));
        // Another process that has got the same ID, another machine, and what cannot be read.
        let reused = Origin { process: own.process.as_ref().map(|own| format!("{own}0")), ..own.clone() };
        assert!(own.knows_dead(&reused));
        for host in [None, Some("another".to_owned())] {
            assert!(!own.knows_dead(&Origin { host, ..origin.clone() }));
        }
        for (host, is_another) in [("another boot", true), (own.host.as_deref().unwrap(), false)] {
            let other = Origin { host: Some(host.to_owned()), ..own.clone() };
            assert_eq!(own.is_of_another_boot(&other), is_another);
            assert!(!own.is_of_another_boot(&Origin { host: None, ..other }));
        }
        for process in [None, Some("x:1".to_owned()), Some(String::new()), Some("-1:1".to_owned())] {
            assert!(!own.knows_dead(&Origin { process, ..origin.clone() }));
        }
    }

    #[test]
    fn a_home_is_the_same_if_its_path_means_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("queue");
        let own = Origin::current(Some(&home));
        assert!(own.shares_home(&own));
        let elsewhere = Origin { mounts: Some("other".to_owned()), parent: None, ..own.clone() };
        assert!(!own.shares_home(&elsewhere));
        assert!(!own.shares_home(&Origin::current(Some(&directory.path().join("other")))));
        assert!(!own.shares_home(&Origin::current(None)));
    }
}
