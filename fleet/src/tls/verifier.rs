//! The client verifier of port 7717: a certificate of our authority, naming a node or person of this fleet who
//! is not banned.

use std::sync::Arc;

use loadline_model::FleetId;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::trust::{DirectorySource, IdentityProblem, PeerCertificate, Refusal};

/// Wraps rustls's own verifier and looks at the name.
#[derive(Debug)]
pub(crate) struct PeerVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    fleet: FleetId,
    directory: DirectorySource,
}

impl PeerVerifier {
    pub(crate) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<rustls::crypto::CryptoProvider>,
        fleet: FleetId,
        directory: DirectorySource,
    ) -> Result<Self, rustls::server::VerifierBuilderError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
        Ok(Self {
            chain,
            fleet,
            directory,
        })
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let peer =
            PeerCertificate::read(self.fleet, end_entity).map_err(|problem| refused(problem.into()))?;
        match self.directory.borrow().actor(&peer.identity) {
            Ok(_) => Ok(verified),
            Err(Refusal::Banned(_)) => Err(Error::InvalidCertificate(CertificateError::Revoked)),
            Err(refusal) => Err(refused(refusal.into())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Why a well-signed certificate is refused all the same.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NameProblem {
    #[error(transparent)]
    Identity(#[from] IdentityProblem),
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

fn refused(problem: NameProblem) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(problem))))
}

/// The word under which a failed handshake is counted.
pub(crate) fn failure_reason(error: &Error) -> &'static str {
    match error {
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(problem) => match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not_valid_yet",
            CertificateError::Revoked => "banned",
            // The authority of another fleet, or one of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => "unknown_issuer",
            CertificateError::Other(_) => "wrong_name",
            _ => "bad_certificate",
        },
        Error::PeerIncompatible(_) => "tls_version",
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => "not_tls",
        Error::AlertReceived(_) => "refused_by_peer",
        _ => "handshake",
    }
}
