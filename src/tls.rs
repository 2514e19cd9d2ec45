//! TLS: one provider of cryptography for the whole process, ring.

/// Makes ring the provider. To be called before any client is built; again does no harm.
pub fn install_provider() {
    // Fails if a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
