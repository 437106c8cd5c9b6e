//! A full disk: writes fail with the reason, nothing acknowledged is lost, and it heals when there is room again.

use std::process::Command;

use tokio::time::{Instant, sleep};
use tortie_typha_client::StoreError;

use crate::process::{DEADLINE, HANDLES, Typha, large_handle};

/// typha in a mount namespace of its own, where its directory is a small file system in memory.
fn confined(dir: &std::path::Path) -> Command {
    let typha = Typha::command(dir);
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-ec",
        "mount -t tmpfs -o size=4m tmpfs \"$0\"; exec \"$@\"",
    ]);
    command.arg(dir.join("disk")).arg(typha.get_program());
    command
        .arg("--datastore")
        .arg(dir.join("disk/store"))
        .args(typha.get_args().skip(2));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_heals() {
    let mut typha = Typha::start().await;
    typha.kill();
    std::fs::create_dir(typha.dir.join("disk")).unwrap();
    let command = confined(&typha.dir);
    typha.run(command).await;
    let store = typha.store();
    let mut acknowledged = Vec::new();
    let refused = loop {
        let key = format!("{HANDLES}h{:04}", acknowledged.len());
        match store.create(&key, large_handle(50 << 10)).await {
            Ok(written) => acknowledged.push((key, written.revision)),
            Err(e) => break e,
        }
        assert!(acknowledged.len() < 200, "the disk is never full");
    };
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    assert!(refused.to_string().contains("No space left"), "{refused}");
    assert!(!acknowledged.is_empty());

    let pid = typha.pid().to_string();
    let disk = typha.dir.join("disk");
    let grow = ["--mount", "--target", &pid, "mount", "-o", "remount,size=64m"];
    assert!(
        Command::new("nsenter")
            .args(grow)
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    );
    let deadline = Instant::now() + DEADLINE;
    while let Err(e) = store.put(&format!("{HANDLES}healed"), large_handle(10)).await {
        assert!(Instant::now() < deadline, "{e}");
        sleep(std::time::Duration::from_millis(20)).await;
    }
    let listing = store.list(HANDLES).await.unwrap();
    for (key, revision) in acknowledged {
        let entry = listing.entries.iter().find(|e| e.key == key);
        assert_eq!(entry.map(|e| e.revision), Some(revision), "{key}");
    }
}
