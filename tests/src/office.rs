//! The simulated office of a test: a server on loopback that lives as long as the value.

use std::net::Ipv4Addr;

use sluicegate_office::{Builder, Clock, Office, Server, Stats, Tenant, Verdict};
use tokio::runtime::Runtime;

use crate::Delivered;

/// A running office.
pub struct Simulated {
    server: Server,
    /// Keeps the server alive; one thread of its own, so that tests may block.
    _runtime: Runtime,
}

impl Simulated {
    /// Opens an office on a free port.
    ///
    /// # Panics
    /// When the machine has no loopback port to give: no test can say anything then.
    pub fn start(builder: Builder) -> Self {
        Self::start_with(builder, Clock::system())
    }

    /// Opens an office under another clock on a free port.
    ///
    /// # Panics
    /// When the machine has no loopback port to give: no test can say anything then.
    pub fn start_with(builder: Builder, clock: Clock) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a test may start a thread");
        let office = builder.build(clock.now_ms());
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let server = runtime
            .block_on(Server::start_with(office, address, clock))
            .expect("a test may listen on loopback");
        Self {
            server,
            _runtime: runtime,
        }
    }

    /// The addresses that it listens on.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Looks at the office, or changes it, between two requests.
    pub fn change<T>(&self, change: impl FnOnce(&mut Office) -> T) -> T {
        self.server.office(|office, _| change(office))
    }

    /// What it saw of its clients.
    pub fn stats(&self) -> Stats {
        self.change(|office| office.stats().clone())
    }

    /// Looks at every tenant.
    pub fn tenants<T>(&self, look: impl FnMut(&Tenant) -> T) -> Vec<T> {
        self.change(|office| office.tenants().iter().map(look).collect())
    }

    /// What is wrong with a delivery.
    pub fn judge(&self, delivered: &Delivered) -> Verdict {
        self.server
            .office(|office, now| office.oracle(now).check(delivered.pairs()))
    }

    /// What is wrong with the delivery for one tenant, whatever became of the others.
    pub fn judge_tenant(&self, tenant: usize, delivered: &Delivered) -> Verdict {
        self.server.office(|office, now| {
            office
                .oracle(now)
                .of_tenant(tenant)
                .check(delivered.pairs())
        })
    }
}
