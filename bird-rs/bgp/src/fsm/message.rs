//! What a message does.

use std::net::SocketAddr;
use std::time::Duration;

use super::connection::{Confirming, Connection, Live, Phase};
use super::event::{Action, ConnId, DownReason, State};
use super::negotiate::{self, Ends};
use super::peer::{Peer, unexpected};
use crate::packet::{Cease, ErrorCode, Message, Notification, Open, RouteRefresh};

const UNSUPPORTED_OPTIONAL_PARAMETER: u8 = 4;

impl Peer {
    pub(super) fn message(
        &mut self,
        now: Duration,
        conn: ConnId,
        message: Result<Message, Notification>,
        out: &mut Vec<Action>,
    ) {
        if matches!(message, Ok(Message::Update(_) | Message::RouteRefresh(_))) {
            self.is_session_of_the_peer(now, conn, out);
        }
        let Some(connection) = self.connection_mut(conn) else {
            return;
        };
        let state = connection.state();
        if let Phase::Delayed { local, remote, .. } = connection.phase {
            return self.before_our_open(now, conn, (local, remote), message, out);
        }
        if let Some(live) = connection.live_mut() {
            live.heard(now);
        }
        match (message, state) {
            (_, State::Idle | State::Active | State::Connect) => {}
            (Err(notification), _) => self.fail(now, conn, notification, out),
            (Ok(Message::Notification(notification)), _) => self.notified(now, conn, notification, out),
            (Ok(Message::Open(open)), State::OpenSent) => self.opened(now, conn, open, out),
            (Ok(Message::Keepalive), State::OpenConfirm) => self.confirmed(now, conn),
            (Ok(Message::Keepalive), State::Established) => {}
            (Ok(Message::Update(update)), State::Established) => {
                let end_of_rib = update.end_of_rib;
                out.push(Action::Update(update));
                if let Some(family) = end_of_rib {
                    self.synchronized(family, out);
                }
            }
            (Ok(Message::RouteRefresh(refresh)), State::Established) => self.refresh(conn, refresh, out),
            (Ok(_), State::OpenSent | State::OpenConfirm | State::Established) => {
                self.fail(now, conn, unexpected(state), out);
            }
        }
    }

    /// A message before our OPEN, which was delayed: the peer's OPEN is answered with ours (RFC 4271 section 8.2.2, event
    /// 20). Anything else is an error, and is told, as with SendNOTIFICATIONwithoutOPEN.
    fn before_our_open(
        &mut self,
        now: Duration,
        conn: ConnId,
        ends: (SocketAddr, SocketAddr),
        message: Result<Message, Notification>,
        out: &mut Vec<Action>,
    ) {
        match message {
            Ok(Message::Open(open)) => {
                self.say_open(now, conn, ends, out);
                self.opened(now, conn, open, out);
            }
            Ok(Message::Notification(notification)) => self.notified(now, conn, notification, out),
            Ok(_) => self.fail(now, conn, unexpected(State::Active), out),
            Err(notification) => self.fail(now, conn, notification, out),
        }
    }

    /// A refresh that was not agreed on, or is for a family that was not, is ignored (RFC 2918 section 4).
    fn refresh(&self, conn: ConnId, refresh: Option<RouteRefresh>, out: &mut Vec<Action>) {
        let live = self.connection(conn).and_then(Connection::live);
        let (Some(refresh), Some(live)) = (refresh, live) else {
            return;
        };
        let demarcation = refresh.kind != crate::packet::RefreshKind::Request;
        let agreed = if demarcation {
            live.negotiated.enhanced_route_refresh
        } else {
            live.negotiated.route_refresh
        };
        if agreed && live.negotiated.context.families.contains(refresh.family) {
            out.push(Action::Refresh(refresh));
        }
    }

    fn notified(&mut self, now: Duration, conn: ConnId, notification: Notification, out: &mut Vec<Action>) {
        let Some(connection) = self.forget(conn) else { return };
        out.push(Action::Close { conn });
        if notification.is_cease(Cease::CollisionResolution) && self.loses_a_collision(&connection) {
            self.reason = "collision resolved".to_owned();
            return;
        }
        // What a Hard Reset carries decides what to do about it; that it is one, about the routes.
        let enclosed = notification.enclosed();
        let meant = enclosed.as_ref().unwrap_or(&notification);
        let open_refused = notification.code == ErrorCode::Open as u8;
        if open_refused && notification.subcode == UNSUPPORTED_OPTIONAL_PARAMETER {
            self.without_capabilities = true;
        }
        let cease = meant.code == ErrorCode::Cease as u8;
        let disable =
            cease && self.config.disable_after_cease & (1_u16.checked_shl(meant.subcode.into()).unwrap_or(1)) != 0;
        let harmless = cease && !meant.is_cease(Cease::MaximumPrefixes) && !meant.is_cease(Cease::OutOfResources);
        self.damage(now, &connection, DownReason::Received(notification), !harmless, out);
        if disable {
            self.handle(
                now,
                super::Event::Stop(super::StopReason::AdministrativeShutdown(String::new())),
                out,
            );
        }
    }

    fn opened(&mut self, now: Duration, conn: ConnId, open: Open, out: &mut Vec<Action>) {
        let Some(Connection {
            phase: Phase::OpenSent { local, remote, .. },
            ..
        }) = self.connection(conn)
        else {
            return;
        };
        let ends = Ends {
            conn,
            local: *local,
            remote: *remote,
        };
        let ours = self.our_open();
        let negotiated = match negotiate::negotiate(&self.config, &ours, open, ends) {
            Ok(negotiated) => negotiated,
            Err(notification) => return self.fail(now, conn, notification, out),
        };
        if !self.make_way(now, conn, out) {
            return;
        }
        let mut live = Live {
            negotiated: Box::new(negotiated),
            hold_until: None,
            keepalive_at: None,
        };
        live.heard(now);
        if let Some(connection) = self.connection_mut(conn) {
            let (said, heard) = (false, None);
            connection.set_phase(now, Phase::OpenConfirm(Confirming { live, said, heard }));
        }
        self.reason = "OPEN received".to_owned();
    }
}
