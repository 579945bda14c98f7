//! Workers whose clocks are wrong.

use std::{path::Path, time::Duration};

use async_trait::async_trait;

use super::{Fault, Field, Skipped, Strike, processes::kill_some};
use crate::{check::Ground, fleet::Environment};

/// Kills workers, each of which believes another time.
pub(super) struct Skewed;

/// Where distributions put the library that changes what a process takes for the time.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

fn library() -> Option<&'static str> {
    LIBRARIES.into_iter().find(|path| Path::new(path).exists())
}

impl Skewed {
    pub(super) fn make() -> Result<Box<dyn Fault>, Skipped> {
        match library() {
            Some(_) => Ok(Box::new(Self)),
            None => Err(Skipped("libfaketime is not installed".into())),
        }
    }
}

#[async_trait]
impl Fault for Skewed {
    fn environment(&self) -> Environment {
        |worker| {
            let offset = ["+3600s", "-3600s", "+7s", "-7s"][worker as usize % 4];
            vec![
                ("LD_PRELOAD", library().unwrap_or_default().to_owned()),
                ("FAKETIME", offset.to_owned()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ]
        }
    }

    fn ground(&self) -> Ground {
        // The ledger is written by the victims, with their own time.
        Ground {
            clocks_are_true: false,
            is_graceful: false,
        }
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(300)).await;
        kill_some(field, 1).await
    }
}
