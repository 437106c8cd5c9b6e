//! `show status`.

use std::time::Duration;

use tortie_bgp::speaker::{Speaker, Status};

use super::reply::Reply;
use super::{Control, VERSION, time};
use crate::engine::{Clock, Stopped};

impl Control {
    pub(super) async fn status(&self) -> Result<Reply, Stopped> {
        let status = self.engine.query(Speaker::status).await?;
        let base = self.configurator.config().await.time_formats.base.clone();
        let now = self.clock.unix_ms(self.clock.now());
        let shown = |at| time::show(base.as_ref().unwrap_or(&time::LONG), at, now);
        Ok(render(&status, self.clock, now, shown))
    }
}

fn render(status: &Status, clock: Clock, now: i64, shown: impl Fn(i64) -> String) -> Reply {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut reply = Reply::default();
    reply.line(1000, VERSION);
    reply.line(1011, &format!("Router ID is {}", status.router_id));
    reply.line(1011, &format!("Hostname is {}", hostname.trim_end()));
    reply.line(1011, &format!("Current server time is {}", shown(now)));
    reply.line(
        1011,
        &format!("Last reboot on {}", shown(clock.unix_ms(Duration::ZERO))),
    );
    let configured = shown(clock.unix_ms(status.configured_at));
    reply.line(1011, &format!("Last reconfiguration on {configured}"));
    reply.end(13, "Daemon is up and running");
    reply
}
