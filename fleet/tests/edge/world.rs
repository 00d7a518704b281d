//! A fleet in a temporary directory, people and nodes who call it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use loadline_fleet::ca::{Authority, KeysLayout};
use loadline_fleet::clock::Clock;
use loadline_fleet::config::Config;
use loadline_fleet::run::{AdminName, InitOptions, Made, Serving, init, start};
use loadline_fleet::tls::ConnectionLimits;
use loadline_fleet::tokens::TokenText;
use loadline_fleet::wire::ErrorDetails;
use loadline_model::WallTime;
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::fleet::v1::access_client::AccessClient;
use loadline_proto::fleet::v1::admin_client::AdminClient;
use loadline_proto::fleet::v1::jobs_client::JobsClient;
use loadline_proto::fleet::v1::nodes_client::NodesClient;
use loadline_proto::fleet::v1::sharing_client::SharingClient;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

/// 2027-01-15.
pub(crate) const START: i64 = 1_800_000_000_000_000;

/// Nothing in these tests takes long; a hang is a failure.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running fleetd with its administrator.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) serving: Serving,
    pub(crate) made: Made,
    now: Arc<AtomicI64>,
}

/// Someone with a key and, once logged in or joined, a certificate.
pub(crate) struct Identity {
    pub(crate) key: KeyPair,
    pub(crate) certificate: Option<String>,
}

pub(crate) fn short_limits() -> ConnectionLimits {
    ConnectionLimits {
        handshake: Duration::from_secs(5),
        ..ConnectionLimits::default()
    }
}

pub(crate) fn config(state_dir: &Path) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        state_dir: state_dir.to_owned(),
        session: any,
        access: any,
        http: any,
        ..Config::default()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(short_limits(), |_| {}).await
    }

    pub(crate) async fn with(limits: ConnectionLimits, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(START));
        let made = make(dir.path().to_owned(), clock(&now)).await;
        let mut config = config(dir.path());
        change(&mut config);
        let serving = start(&config, clock(&now), limits).await.unwrap();
        Self {
            dir,
            serving,
            made,
            now,
        }
    }

    /// Stops fleetd and starts it again on the same state.
    pub(crate) async fn restarted(self) -> Self {
        let Self {
            dir,
            serving,
            made,
            now,
        } = self;
        stop(serving).await;
        let serving = start(&config(dir.path()), clock(&now), short_limits())
            .await
            .unwrap();
        Self {
            dir,
            serving,
            made,
            now,
        }
    }

    pub(crate) fn later(&self, by: Duration) {
        self.now
            .fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> WallTime {
        WallTime(self.now.load(Ordering::SeqCst))
    }

    pub(crate) fn authority(&self) -> Authority {
        KeysLayout::of(self.dir.path()).read().unwrap().authority
    }

    pub(crate) fn state(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub(crate) fn session_address(&self) -> SocketAddr {
        self.serving.addresses.session
    }

    /// The access service, as a newcomer calls it.
    pub(crate) async fn access(&self) -> AccessClient<Channel> {
        let tls = client_config(&self.authority(), None);
        AccessClient::new(channel(self.serving.addresses.access, tls).await.unwrap())
    }

    pub(crate) async fn login_with(&self, token: &str) -> Result<Identity, Status> {
        let key = KeyPair::generate().unwrap();
        let (_, token) = TokenText::decode(token).unwrap();
        let request = fleet::LoginRequest {
            secret: token.secret,
            csr_der: csr(&key),
        };
        let reply = self.access().await.login(request).await?.into_inner();
        Ok(Identity {
            key,
            certificate: Some(reply.certificate_pem),
        })
    }

    pub(crate) async fn admin(&self) -> Person {
        let identity = self.login_with(&self.made.login_token).await.unwrap();
        Person::new(self, &identity).await
    }

    /// Adds a person with a role and logs them in.
    pub(crate) async fn person(&self, admin: &mut Person, name: &str, role: &str) -> Person {
        let identity = self.identity(admin, name, role).await;
        Person::new(self, &identity).await
    }

    pub(crate) async fn identity(&self, admin: &mut Person, name: &str, role: &str) -> Identity {
        let add = fleet::AddUserRequest {
            name: name.into(),
            role: role.into(),
            ..Default::default()
        };
        admin.admin.add_user(add).await.unwrap();
        let request = fleet::CreateLoginTokenRequest { user: name.into() };
        let token = admin
            .admin
            .create_login_token(request)
            .await
            .unwrap()
            .into_inner()
            .token;
        self.login_with(&token).await.unwrap()
    }
}

pub(crate) fn clock(now: &Arc<AtomicI64>) -> Clock {
    let now = now.clone();
    Clock::new(move || WallTime(now.load(Ordering::SeqCst)))
}

pub(crate) async fn make(state_dir: PathBuf, clock: Clock) -> Made {
    let options = InitOptions {
        state_dir,
        names: vec!["127.0.0.1".parse().unwrap()],
        admin: AdminName {
            name: "admin".into(),
            unix_account: None,
        },
    };
    // It has a runtime of its own.
    tokio::task::spawn_blocking(move || init(&options, &clock).unwrap())
        .await
        .unwrap()
}

pub(crate) async fn stop(serving: Serving) {
    let threads = serving.stop().await;
    tokio::task::spawn_blocking(move || threads.finish().unwrap())
        .await
        .unwrap();
}

/// The services as one person calls them, on one connection.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) jobs: JobsClient<Channel>,
    pub(crate) nodes: NodesClient<Channel>,
    pub(crate) admin: AdminClient<Channel>,
    pub(crate) sharing: SharingClient<Channel>,
}

impl Person {
    pub(crate) async fn new(world: &World, identity: &Identity) -> Self {
        let tls = client_config(&world.authority(), Some(identity));
        Self::on(channel(world.session_address(), tls).await.unwrap())
    }

    pub(crate) fn on(channel: Channel) -> Self {
        Self {
            jobs: JobsClient::new(channel.clone()),
            nodes: NodesClient::new(channel.clone()),
            admin: AdminClient::new(channel.clone()),
            sharing: SharingClient::new(channel),
        }
    }

    pub(crate) async fn node_token(&mut self, node: &str) -> String {
        let request = fleet::CreateNodeTokenRequest {
            node: node.into(),
            ..Default::default()
        };
        self.admin
            .create_node_token(request)
            .await
            .unwrap()
            .into_inner()
            .token
    }
}

pub(crate) fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .der()
        .to_vec()
}

/// The fleet's clock is the test's, and so is its clients'.
#[derive(Debug)]
struct AtStart;

impl TimeProvider for AtStart {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_micros(
            START.unsigned_abs(),
        )))
    }
}

pub(crate) fn versions(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_details(provider, Arc::new(AtStart))
        .with_protocol_versions(versions)
        .unwrap()
}

pub(crate) fn client_config(authority: &Authority, identity: Option<&Identity>) -> ClientConfig {
    finish(versions(&[&rustls::version::TLS13]), authority, identity)
}

pub(crate) fn finish(
    builder: rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>,
    authority: &Authority,
    identity: Option<&Identity>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificates()[0].clone()).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { key, certificate }) => {
            let pem = certificate.clone().unwrap();
            let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Opens TLS under fleetd's fixed name.
pub(crate) async fn dial(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("fleetd.loadline").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// gRPC over one TLS connection, which is not opened a second time.
pub(crate) async fn channel(
    address: SocketAddr,
    config: ClientConfig,
) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_: Uri| {
        let config = config.clone();
        async move { dial(address, config).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://fleetd.loadline")
        .connect_with_connector(connector)
        .await
}

/// The reason in a failed call's details; every failure has one, with the next step and the call's id.
pub(crate) fn reason(status: &Status) -> String {
    let details = ErrorDetails::of(status).unwrap_or_else(|| panic!("no details in {status:?}"));
    assert!(!details.next_step.is_empty(), "{status:?}");
    assert!(!details.request_id.is_empty(), "{status:?}");
    details.reason
}

/// Waits for a condition; a time-out reports the last state.
pub(crate) async fn wait_for<T: std::fmt::Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(last) => {
                assert!(tokio::time::Instant::now() < deadline, "{what}: still {last}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}
