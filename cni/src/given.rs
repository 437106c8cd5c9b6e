//! Commands of a network whose addresses another plugin manages (`ipam.type` `host-local` or `static`).
//!
//! felix is asked first whether it is there, so that nothing is taken that cannot be used; an ADD that felix refuses gives
//! back what it took; a DEL gives addresses back when felix has removed everything that leads to them.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::ask::{Call, missing};
use crate::client::Felix;
use crate::delegate::{Delegate, Given, wants_pod_cidrs};
use crate::environment::{Command, Target};
use crate::error::{CniError, Code};
use crate::result;

/// Does the command, and gives what is to be printed.
pub(crate) async fn ask(call: &Call<'_>, name: &str) -> Result<Option<Value>, CniError> {
    let (conf, command) = (call.conf, call.command);
    match (command, call.target) {
        (Command::Add, Some(target)) => return add(call, name, target).await.map(Some),
        (Command::Del, Some(target)) => {
            Felix::connect(conf, command).await?.del(conf, target).await?;
            let delegate = find(call, name, None).await?;
            delegate.pass_on(command).await?;
        }
        (Command::Check, Some(target)) => {
            let previous = conf.prev_result.as_ref().ok_or_else(|| missing("prevResult"))?;
            let expected = result::expected_ips(previous, &target.ifname);
            let felix = Felix::connect(conf, command).await?;
            felix.check(conf, target, expected).await?;
            let delegate = find(call, name, None).await?;
            delegate.pass_on(command).await?;
        }
        (Command::Gc, _) => {
            let valid = conf.valid_attachments.as_ref();
            let valid = valid.ok_or_else(|| missing("cni.dev/valid-attachments"))?;
            // What fails here does not keep the other from collecting.
            let ours = match Felix::connect(conf, command).await {
                Ok(felix) => felix.collect(conf, valid).await.map(drop),
                Err(e) => Err(e),
            };
            let theirs = match find(call, name, None).await {
                Ok(delegate) => delegate.pass_on(command).await,
                Err(e) => Err(e),
            };
            match (ours, theirs) {
                (Err(ours), Err(theirs)) => return Err(ours.with(&theirs)),
                (ours, theirs) => ours.and(theirs)?,
            }
        }
        (Command::Status, _) => status(call, name).await?,
        (Command::Version | Command::Add | Command::Del | Command::Check, _) => {}
    }
    Ok(None)
}

async fn find(call: &Call<'_>, name: &str, cidrs: Option<&[String]>) -> Result<Delegate, CniError> {
    let mut object = call.object.clone();
    if call.command == Command::Add {
        pass_wish_on(&mut object, name, &call.conf.requested_ips);
    }
    Delegate::find(name, call.search, &object, call.conf.version, cidrs).await
}

/// Puts the addresses that a pod's annotation asks for where these plugins look for them. What the runtime itself asks for
/// is in one of the two places already, and comes first.
fn pass_wish_on(object: &mut Map<String, Value>, name: &str, wish: &[IpAddr]) {
    let asks = |parent: &str, path: &[&str]| {
        let found = path.iter().try_fold(object.get(parent)?, |at, field| at.get(*field));
        found.filter(|ips| !ips.is_null())
    };
    if wish.is_empty()
        || asks("runtimeConfig", &["ips"])
            .or(asks("args", &["cni", "ips"]))
            .is_some()
    {
        return;
    }
    // static wants a length with it; host-local has always taken plain addresses.
    let text = |ip: &IpAddr| match name {
        "static" => format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }),
        _ => ip.to_string(),
    };
    let ips: Vec<Value> = wish.iter().map(|ip| text(ip).into()).collect();
    let args = object.entry("args").or_insert_with(|| json!({}));
    // An `args` of another form was refused before.
    if let Some(cni) = args
        .as_object_mut()
        .map(|a| a.entry("cni").or_insert_with(|| json!({})))
        && let Some(cni) = cni.as_object_mut()
    {
        cni.insert("ips".to_owned(), ips.into());
    }
}

async fn add(call: &Call<'_>, name: &str, target: &Target) -> Result<Value, CniError> {
    let felix = Felix::connect(call.conf, call.command).await?;
    let known = felix.prepare(Some((call.conf, target))).await?;
    let delegate = find(call, name, Some(&known.pod_cidrs)).await?;
    let (given, taken) = match delegate.add().await {
        Ok(given) => (given, true),
        // It gives nothing twice to a container. A runtime that repeats an ADD gets what it got before.
        Err(_) if !known.ips.is_empty() => {
            let plain = known.ips.iter().filter_map(|ip| ip.split('/').next()?.parse().ok());
            let ips = plain.collect();
            (Given { ips, dns: None }, false)
        }
        Err(e) => return Err(e),
    };
    let mut conf = call.conf.clone();
    conf.dns = conf.dns.or(given.dns);
    match felix.add(&conf, target, &given.ips).await {
        Ok(made) => Ok(result::added(&conf, target, &made)),
        Err(e) => {
            // felix that did not answer may still be at it: then the address stays taken until the runtime's DEL.
            if taken && matches!(e.code, Code::Other(_)) {
                delegate.undo().await;
            }
            Err(e)
        }
    }
}

async fn status(call: &Call<'_>, name: &str) -> Result<(), CniError> {
    // An ADD that must be tried later, or cannot be done, is a plugin that is not available.
    let unavailable = |e: CniError| CniError {
        code: Code::NotAvailable,
        ..e
    };
    let felix = Felix::connect(call.conf, call.command).await?;
    felix.ready(true).await?;
    let wanted = call.object.get("ipam").is_some_and(wants_pod_cidrs);
    let cidrs = match wanted {
        true => felix.prepare(None).await?.pod_cidrs,
        false => Vec::new(),
    };
    let delegate = find(call, name, Some(&cidrs)).await.map_err(unavailable)?;
    delegate.pass_on(call.command).await
}
