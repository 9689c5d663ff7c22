//! The measurements, in rounds: each round runs every product once, so that changes on the computer affect all of them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use rorqual_tests::{
    Series, host_port,
    load::{Node, Service, Task},
    wait::within,
};

use crate::{guest::Guest, options::Options, product::Product, report::Figures, rows::ROWS, running::WayIn};

/// The services at either end.
const SERVICES: [Service; 5] = [Service::Stream, Service::Echo, Service::Greet, Service::Datagrams, Service::Keep];
/// The first port of the guest's services, in this order.
const GUEST_PORT: u16 = 5201;

/// Time for retrying a failed load: a server may first have to notice that its client is gone.
const RETRY_WITHIN: Duration = Duration::from_secs(40);
/// Keys of failed loads: every failure, and those given up.
const FAILURES: &str = "failures";
const GIVEN_UP: &str = "given up";

/// Figures by the keys of [`ROWS`], [`FAILURES`] and [`GIVEN_UP`].
type Gathered = BTreeMap<&'static str, Vec<f64>>;

/// Measures everything, `options.runs` times.
pub(crate) fn measure(options: &Options) -> Result<Vec<Figures>> {
    let directory = tempfile::tempdir()?;
    let mut bench = Bench { options, host: Node::default(), ports: [0; SERVICES.len()], directory: directory.path() };
    for (place, service) in SERVICES.into_iter().enumerate() {
        let at = (Ipv4Addr::LOCALHOST, host_port::free()?).into();
        bench.host.perform(&Task::Serve { service, at })?;
        bench.ports[place] = at.port();
    }
    let mut all: Vec<(Product, Gathered)> = Product::ALL
        .into_iter()
        .filter(|product| options.wants(*product))
        .map(|product| (product, Gathered::new()))
        .collect();
    for round in 1..=options.runs {
        for (product, gathered) in &mut all {
            bench.round(*product, gathered).with_context(|| format!("{} in round {round}", product.name()))?;
            eprintln!("bench-net: round {round} of {}: {} done", options.runs, product.name());
        }
    }
    let figures = |(product, mut gathered): (Product, Gathered)| Figures {
        name: product.name().to_owned(),
        failures: gathered.remove(FAILURES).map_or(0, |all| all.len()),
        given_up: gathered.remove(GIVEN_UP).map_or(0, |all| all.len()),
        rows: ROWS.iter().filter_map(|row| Some((row.key.to_owned(), Series::of(gathered.remove(row.key)?)))).collect(),
    };
    Ok(all.into_iter().map(figures).collect())
}

struct Bench<'a> {
    options: &'a Options,
    host: Node,
    /// Addresses of the host's services.
    ports: [u16; SERVICES.len()],
    directory: &'a std::path::Path,
}

/// The end that sends requests, and the addresses of the other's services.
struct Asking<'a> {
    perform: &'a mut dyn FnMut(&Task) -> Result<Vec<f64>>,
    host: Ipv4Addr,
    ports: [u16; SERVICES.len()],
    seconds: u32,
    product: Product,
}

impl Asking<'_> {
    fn to(&self, service: Service) -> SocketAddr {
        let place = SERVICES.iter().position(|served| *served == service).unwrap_or_default();
        (self.host, self.ports[place]).into()
    }

    fn all(&mut self, keys: &Keys, gathered: &mut Gathered) -> Result<()> {
        let seconds = self.seconds;
        let (stream, echo, greet) = (self.to(Service::Stream), self.to(Service::Echo), self.to(Service::Greet));
        let mut tasks = vec![
            (Task::Stream { to: stream, streams: 1, seconds }, vec![keys.stream_1]),
            (Task::Stream { to: stream, streams: 8, seconds }, vec![keys.stream_8]),
            (Task::Requests { to: echo, seconds }, vec![keys.p50, keys.p99]),
            (Task::Connections { to: greet, seconds }, vec![keys.connect]),
        ];
        if let Some((send, fetch)) = keys.datagrams {
            let to = self.to(Service::Datagrams);
            tasks.push((Task::SendDatagrams { to, seconds }, vec![send]));
            tasks.push((Task::FetchDatagrams { to, seconds }, vec![fetch]));
        }
        for (task, keys) in tasks {
            let figures = match self.attempt(&task, gathered) {
                Ok(figures) => figures,
                // Rorqual's gateway must not fail.
                Err(error) if self.product == Product::Rorqual => return Err(error.context(format!("{task:?}"))),
                Err(error) => {
                    eprintln!("bench-net: {task:?} behind {} is given up: {error:#}", self.product.name());
                    gathered.entry(GIVEN_UP).or_default().push(1.0);
                    continue;
                }
            };
            for (key, figure) in keys.into_iter().zip(figures) {
                gathered.entry(key).or_default().push(figure);
            }
        }
        Ok(())
    }

    /// A product may lose a connection under load. The task is then repeated, and the loss is counted.
    fn attempt(&mut self, task: &Task, gathered: &mut Gathered) -> Result<Vec<f64>> {
        let mut last = None;
        let figures = within(RETRY_WITHIN, || match (self.perform)(task) {
            Ok(figures) => Some(figures),
            Err(error) => {
                eprintln!("bench-net: a load failed and is done again: {error:#}");
                gathered.entry(FAILURES).or_default().push(1.0);
                last = Some(error);
                None
            }
        });
        figures.ok_or_else(|| last.unwrap_or_else(|| anyhow!("it was never tried")))
    }
}

/// Keys of the figures of one direction.
struct Keys {
    stream_1: &'static str,
    stream_8: &'static str,
    p50: &'static str,
    p99: &'static str,
    connect: &'static str,
    datagrams: Option<(&'static str, &'static str)>,
}

/// Loads from the guest. Datagrams travel both ways on flows begun by the guest.
const OUT: Keys = Keys {
    stream_1: "out_1",
    stream_8: "out_8",
    p50: "request_out_p50",
    p99: "request_out_p99",
    connect: "connect_out",
    datagrams: Some(("datagram_out", "datagram_in")),
};
/// Loads from the host.
const IN: Keys = Keys {
    stream_1: "in_1",
    stream_8: "in_8",
    p50: "request_in_p50",
    p99: "request_in_p99",
    connect: "connect_in",
    datagrams: None,
};

impl Bench<'_> {
    fn round(&mut self, product: Product, gathered: &mut Gathered) -> Result<()> {
        if product == Product::Loopback {
            return self.loopback(product, gathered);
        }
        self.loads(product, gathered)?;
        self.memory(product, gathered)
    }

    fn loopback(&mut self, product: Product, gathered: &mut Gathered) -> Result<()> {
        let (ports, seconds) = (self.ports, self.options.seconds);
        let mut perform = |task: &Task| self.host.perform(task);
        let mut asking = Asking { perform: &mut perform, host: Ipv4Addr::LOCALHOST, ports, seconds, product };
        asking.all(&OUT, gathered)?;
        asking.all(&IN, gathered)
    }

    fn loads(&mut self, product: Product, gathered: &mut Gathered) -> Result<()> {
        let mut ways = Vec::new();
        for guest in (GUEST_PORT..).take(SERVICES.len()) {
            ways.push(WayIn { host: host_port::free()?, guest });
        }
        let mut guest = Guest::start(product, self.options, &self.directory.join("guest"), &ways)?;
        for (service, way) in SERVICES.into_iter().zip(&ways) {
            guest.perform(&Task::Serve { service, at: (Ipv4Addr::UNSPECIFIED, way.guest).into() })?;
        }
        let seconds = self.options.seconds;
        let mut perform = |task: &Task| guest.perform(task);
        let mut asking =
            Asking { perform: &mut perform, host: product.link().host, ports: self.ports, seconds, product };
        asking.all(&OUT, gathered)?;
        let mut ports = [0; SERVICES.len()];
        for (port, way) in ports.iter_mut().zip(&ways) {
            *port = way.host;
        }
        let mut perform = |task: &Task| self.host.perform(task).with_context(|| guest.running.words());
        let mut asking = Asking { perform: &mut perform, host: Ipv4Addr::LOCALHOST, ports, seconds, product };
        asking.all(&IN, gathered)
    }

    /// A new guest, because memory an earlier load left in an allocator would hide the cost of flows.
    fn memory(&mut self, product: Product, gathered: &mut Gathered) -> Result<()> {
        const FIRST: u32 = 1000;
        let mut guest = Guest::start(product, self.options, &self.directory.join("guest"), &[])?;
        let place = SERVICES.iter().position(|service| *service == Service::Keep).unwrap_or_default();
        let to = (product.link().host, self.ports[place]).into();
        let before = guest.running.memory()?;
        guest.perform(&Task::Hold { to, count: FIRST })?;
        let first = guest.running.memory()? - before;
        guest.perform(&Task::Hold { to, count: self.options.flows - FIRST })?;
        let all = guest.running.memory()? - before;
        gathered.entry("memory_1000").or_default().push(first);
        gathered.entry("memory_all").or_default().push(all * f64::from(FIRST) / f64::from(self.options.flows));
        Ok(())
    }
}
