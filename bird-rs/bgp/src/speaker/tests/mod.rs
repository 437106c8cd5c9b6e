//! Speakers wired to each other in memory, under virtual time.

mod add_path;
mod bfd;
mod clauses;
mod dump;
mod filters;
mod in_sync;
mod kernel;
mod limits;
mod links;
mod long_lived;
mod maintenance;
mod merge;
mod monitor;
mod network;
mod next_hops;
mod operate;
mod pages;
mod propagation;
mod random;
mod reconfigure;
mod restart;
mod roas;
mod roles;
mod rounds;
mod sessions;
mod silence;
mod soft;
mod stats;
mod told;
mod watch;

use tortie_net::Prefix;

use self::network::Network;
use super::{Cursor, FibRoute, RouteQuery, RouteView, Speaker};

impl Speaker {
    /// All pages of a query, sorted by table and prefix.
    fn routes(&self, query: &RouteQuery) -> Vec<RouteView> {
        let (mut all, mut at) = (Vec::new(), Some(Cursor::default()));
        while let Some(from) = at {
            let page = self.routes_page(query, from);
            all.extend(page.routes);
            at = page.next;
        }
        all.sort_by_key(|view| (view.table.clone(), view.prefix));
        all
    }

    /// All that felix is told, sorted by prefix.
    fn fib(&self) -> Vec<(Prefix, FibRoute)> {
        let (mut all, mut at) = (Vec::new(), Some(Cursor::default()));
        while let Some(from) = at {
            let page = self.fib_page(from);
            all.extend(page.routes);
            at = page.next;
        }
        all.sort_by_key(|(net, _)| *net);
        all
    }
}
