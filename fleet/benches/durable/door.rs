//! The two ways in: fleetd's API, and its writer without it.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use hyper_util::rt::TokioIo;
use loadline_fleet::Fleet;
use loadline_fleet::ca::KeysLayout;
use loadline_fleet::clock::Clock;
use loadline_fleet::config::Config;
use loadline_fleet::run::{AdminName, InitOptions, Serving, init, start};
use loadline_fleet::state::{Command, Reply};
use loadline_fleet::store::Sqlite;
use loadline_fleet::tls::ConnectionLimits;
use loadline_fleet::tokens::TokenText;
use loadline_fleet::trust::Role;
use loadline_fleet::wire;
use loadline_fleet::writer::{self, WriterThread};
use loadline_model::JobId;
use loadline_proto::fleet::v1 as fleet;
use loadline_proto::fleet::v1::access_client::AccessClient;
use loadline_proto::fleet::v1::jobs_client::JobsClient;
use loadline_proto::fleet::v1::submitted::Outcome;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::nodes_and_jobs::{id, spec};

/// Who submits.
const PERSON: &str = "bench";

/// A running fleet manager, or its writer alone.
pub(crate) enum Door {
    Api {
        serving: Box<Serving>,
        roots: RootCertStore,
        token: String,
    },
    Writer {
        fleet: Fleet,
        /// It ends once the last handle is dropped.
        _thread: WriterThread,
    },
}

/// One who submits.
pub(crate) enum Client {
    Api {
        say: mpsc::Sender<fleet::SubmitManyRequest>,
        replies: Box<Streaming<fleet::SubmitManyReply>>,
    },
    Writer(Fleet),
}

impl Door {
    pub(crate) fn writer(folder: &Path) -> anyhow::Result<Self> {
        let store = Sqlite::open(&folder.join("fleet.db"))?;
        let (fleet, thread) = writer::start(Box::new(store), Clock::system())?;
        Ok(Self::Writer {
            fleet,
            _thread: thread,
        })
    }

    pub(crate) fn api(runtime: &Runtime, folder: &Path) -> anyhow::Result<Self> {
        let options = InitOptions {
            state_dir: folder.to_owned(),
            names: vec!["127.0.0.1".parse()?],
            admin: AdminName {
                name: PERSON.into(),
                unix_account: None,
            },
        };
        let made = init(&options, &Clock::system())?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config {
            state_dir: folder.to_owned(),
            session: any,
            access: any,
            http: any,
            ..Config::default()
        };
        let serving = runtime.block_on(start(&config, Clock::system(), ConnectionLimits::default()))?;
        let authority = KeysLayout::of(folder).read()?.authority;
        let mut roots = RootCertStore::empty();
        for certificate in authority.certificates() {
            roots.add(certificate.clone())?;
        }
        Ok(Self::Api {
            serving: Box::new(serving),
            roots,
            token: made.login_token,
        })
    }

    pub(crate) fn fleet(&self) -> &Fleet {
        match self {
            Self::Api { serving, .. } => &serving.edge.fleet,
            Self::Writer { fleet, .. } => fleet,
        }
    }

    /// So many who submit, each on a connection of its own.
    pub(crate) async fn clients(&self, count: u64) -> anyhow::Result<Vec<Client>> {
        let mut clients = Vec::new();
        match self {
            Self::Writer { fleet, .. } => {
                fleet
                    .submit(Command::AddUser {
                        by: "local".into(),
                        name: PERSON.into(),
                        role: Role::Admin,
                        unix_account: String::new(),
                        team: String::new(),
                    })
                    .await?;
                clients.extend((0..count).map(|_| Client::Writer(fleet.clone())));
            }
            Self::Api {
                serving,
                roots,
                token,
            } => {
                let config = login(serving, roots, token).await?;
                for _ in 0..count {
                    let channel = channel(serving.addresses.session, config.clone()).await?;
                    let (say, messages) = mpsc::channel(1);
                    let messages = ReceiverStream::new(messages);
                    let replies = JobsClient::new(channel).submit_many(messages).await?.into_inner();
                    clients.push(Client::Api {
                        say,
                        replies: Box::new(replies),
                    });
                }
            }
        }
        Ok(clients)
    }
}

impl Client {
    /// Submits the jobs of these numbers in one message, and waits until all are durable.
    pub(crate) async fn submit(&mut self, numbers: Range<u64>) -> anyhow::Result<()> {
        match self {
            Self::Writer(fleet) => {
                let mut pending = Vec::new();
                for number in numbers {
                    let submit = Command::Submit {
                        by: PERSON.into(),
                        job: JobId::from_slice(&id(number))?,
                        spec: spec(number)?,
                    };
                    pending.push(fleet.enqueue(submit).await?);
                }
                for answer in pending {
                    let reply = answer.answer().await?;
                    ensure!(matches!(reply, Reply::Submitted { fresh: true, .. }), "{reply:?}");
                }
            }
            Self::Api { say, replies } => {
                let job = |number| {
                    anyhow::Ok(fleet::SubmitRequest {
                        job_id: id(number).to_vec(),
                        spec: Some(wire::write_spec(&spec(number)?)),
                    })
                };
                let jobs = numbers.map(job).collect::<Result<Vec<_>, _>>()?;
                let asked = jobs.len();
                say.send(fleet::SubmitManyRequest { jobs }).await?;
                let reply = replies.message().await?.context("the stream ended")?;
                ensure!(reply.jobs.len() == asked, "{} answers", reply.jobs.len());
                for job in reply.jobs {
                    if let Some(Outcome::Refused(refused)) = job.outcome {
                        bail!("refused: {}", refused.message);
                    }
                }
            }
        }
        Ok(())
    }
}

async fn login(serving: &Serving, roots: &RootCertStore, token: &str) -> anyhow::Result<ClientConfig> {
    let key = KeyPair::generate()?;
    let (_, token) = TokenText::decode(token)?;
    let csr = CertificateParams::default().serialize_request(&key)?;
    let anonymous = tls(roots, None)?;
    let mut access = AccessClient::new(channel(serving.addresses.access, anonymous).await?);
    let request = fleet::LoginRequest {
        secret: token.secret,
        csr_der: csr.der().to_vec(),
    };
    let certificate = access.login(request).await?.into_inner().certificate_pem;
    tls(roots, Some((&key, &certificate)))
}

fn tls(roots: &RootCertStore, identity: Option<(&KeyPair, &str)>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots.clone());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((key, certificate)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

async fn channel(address: SocketAddr, config: ClientConfig) -> anyhow::Result<Channel> {
    let connector = tower::service_fn(move |_: Uri| {
        let config = config.clone();
        async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from("fleetd.loadline").map_err(std::io::Error::other)?;
            let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Ok(Endpoint::from_static("http://fleetd.loadline")
        .connect_with_connector(connector)
        .await?)
}
