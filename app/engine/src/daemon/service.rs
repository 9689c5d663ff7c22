//! The service of `engine.proto`.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{Stream, StreamExt, future::join_all, stream, stream::BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{logs, request::RequestError, shell};
use crate::{
    api::{self, engine_server::Engine},
    config::{AcceleratorChoice, Config},
    doctor,
    error::to_status,
    home::{DEFAULT_MACHINE, Home, MachineName},
    image::Image,
    machine::{DaemonEnding, Machine, StartChoice},
    proxy::Proxies,
    routes::Routes,
};

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = BoxStream<'static, Result<T, Status>>;

/// The service of one daemon.
pub(super) struct Service {
    home: Home,
    machines: BTreeMap<MachineName, Machine>,
    routes: Arc<Routes>,
    ending: CancellationToken,
}

impl Service {
    pub(super) fn new(
        home: Home,
        machines: BTreeMap<MachineName, Machine>,
        routes: Routes,
        ending: CancellationToken,
    ) -> Self {
        Self { home, machines, routes: Arc::new(routes), ending }
    }

    fn machine(&self, name: &str) -> Result<&Machine, Status> {
        let name = MachineName::parse(name).map_err(|error| to_status(&error))?;
        self.machines.get(&name).ok_or_else(|| {
            let known: Vec<_> = self.machines.keys().map(MachineName::as_str).collect();
            to_status(&RequestError::MachineUnknown { name: name.to_string(), known: known.join(", ") })
        })
    }

    /// Ends a stream with an error when the daemon exits, since a plain end would mean success.
    fn until_the_end<T: Send + 'static>(
        &self,
        items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Streamed<T>> {
        let state = Some((Box::pin(items), self.ending.clone()));
        let stream = stream::unfold(state, |state| async move {
            let (mut items, ending) = state?;
            tokio::select! {
                biased;
                item = items.next() => item.map(|item| (item, Some((items, ending)))),
                () = ending.cancelled() => Some((Err(to_status(&DaemonEnding)), None)),
            }
        });
        Response::new(stream.boxed())
    }
}

/// A status that includes the addresses of containers' names.
fn with_routes(mut machine: api::MachineStatus, routes: &Routes) -> api::StatusReply {
    if machine.name == DEFAULT_MACHINE {
        machine.routes = Some(routes.describe());
    }
    api::StatusReply { machine: Some(machine) }
}

#[tonic::async_trait]
impl Engine for Service {
    type StartStream = Streamed<api::Progress>;
    type StopStream = Streamed<api::Progress>;
    type SuspendStream = Streamed<api::Progress>;
    type WatchStatusStream = Streamed<api::StatusReply>;
    type LogsStream = Streamed<api::LogChunk>;
    type ShellStream = Streamed<api::ShellOutput>;

    async fn version(&self, _: Request<api::VersionRequest>) -> Answer<api::VersionReply> {
        let image = Config::load(&self.home).ok().and_then(|config| Image::locate(&self.home, &config).ok());
        Ok(Response::new(api::VersionReply {
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
            daemon_process: std::process::id(),
            image_version: image.map(|image| image.version().to_owned()).unwrap_or_default(),
        }))
    }

    async fn start(&self, request: Request<api::StartRequest>) -> Answer<Self::StartStream> {
        let request = request.into_inner();
        let accelerator = match request.accelerator.as_str() {
            "" => None,
            word => Some(
                AcceleratorChoice::parse(word)
                    .ok_or_else(|| to_status(&RequestError::AcceleratorUnknown(word.to_owned())))?,
            ),
        };
        let how = StartChoice { accelerator, cold: request.cold };
        Ok(self.until_the_end(self.machine(&request.machine)?.start(how).await?))
    }

    async fn suspend(&self, request: Request<api::SuspendRequest>) -> Answer<Self::SuspendStream> {
        let progress = self.machine(&request.into_inner().machine)?.suspend().await?;
        Ok(self.until_the_end(progress))
    }

    async fn stop(&self, request: Request<api::StopRequest>) -> Answer<Self::StopStream> {
        let request = request.into_inner();
        let progress = self.machine(&request.machine)?.stop(request.force, request.timeout_seconds).await?;
        Ok(self.until_the_end(progress))
    }

    async fn status(&self, request: Request<api::StatusRequest>) -> Answer<api::StatusReply> {
        let machine = self.machine(&request.into_inner().machine)?.status();
        Ok(Response::new(with_routes(machine, &self.routes)))
    }

    async fn watch_status(&self, request: Request<api::StatusRequest>) -> Answer<Self::WatchStatusStream> {
        let changes = self.machine(&request.into_inner().machine)?.watch();
        let routes = Arc::clone(&self.routes);
        Ok(self.until_the_end(changes.map(move |machine| Ok(with_routes(machine, &routes)))))
    }

    async fn logs(&self, request: Request<api::LogsRequest>) -> Answer<Self::LogsStream> {
        let request = request.into_inner();
        let machine = self.machine(&request.machine)?;
        Ok(self.until_the_end(logs::stream(&self.home, machine, request).await?))
    }

    async fn shell(&self, request: Request<Streaming<api::ShellInput>>) -> Answer<Self::ShellStream> {
        let mut input = request.into_inner();
        let start = shell::first(&mut input).await?;
        let agent = self.machine(&start.machine)?.agent()?;
        Ok(self.until_the_end(shell::run(agent, start, input).await?))
    }

    async fn proxies(&self, _: Request<api::ProxiesRequest>) -> Answer<api::ProxiesReply> {
        let config = Config::load(&self.home).map_err(|error| to_status(&error))?;
        if !config.proxy.containers {
            return Ok(Response::new(api::ProxiesReply::default()));
        }
        let proxies = Proxies::of_user(&config.proxy);
        Ok(Response::new(api::ProxiesReply {
            http: proxies.guest_http(),
            https: proxies.guest_https(),
            no_proxy: proxies.guest_no_proxy(),
        }))
    }

    async fn doctor(&self, _: Request<api::DoctorRequest>) -> Answer<api::DoctorReply> {
        Ok(Response::new(api::DoctorReply { checks: doctor::examine(&self.home).await }))
    }

    async fn quit(&self, request: Request<api::QuitRequest>) -> Answer<api::QuitReply> {
        if request.into_inner().stop_machines {
            let stops = self.machines.values().map(|machine| async {
                let mut progress = std::pin::pin!(machine.stop(false, 0).await?);
                while let Some(step) = progress.next().await {
                    step?;
                }
                Ok(())
            });
            join_all(stops).await.into_iter().collect::<Result<(), Status>>()?;
        }
        tracing::info!("exiting on request");
        self.ending.cancel();
        Ok(Response::new(api::QuitReply {}))
    }
}
