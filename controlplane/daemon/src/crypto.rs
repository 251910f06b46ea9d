//! Which cryptography the workers of this process run: chosen once, at the start.
//!
//! Intel IPsec Multi-Buffer where the build has it, the CPU suits it and its self-test passes; `Portable` elsewhere. The operator can
//! ask for one of them (`crypto` in the configuration). The onion is `ain-crypto`'s own in both.

use ain_crypto::Onion;
use thiserror::Error;
use tracing::info;

use crate::config::CryptoChoice;
use crate::report::CryptoReport;

/// Why a backend that was asked for is not there.
#[derive(Debug, Error)]
pub enum CryptoError {
    /// The cargo feature is off.
    #[error("this build is without ipsec-mb (cargo feature `ipsec-mb`)")]
    NotBuilt,
    /// The machine's CPU or library does not do.
    #[cfg(feature = "ipsec-mb")]
    #[error(transparent)]
    Unavailable(#[from] ipsec_mb_sys::Unavailable),
}

/// The backend of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// Intel IPsec Multi-Buffer, with its code for this CPU.
    #[cfg(feature = "ipsec-mb")]
    IpsecMb(ipsec_mb_sys::Level),
    /// The one of every machine.
    Portable,
}

impl Chosen {
    /// What is asked for, or the best there is; says which in the log.
    ///
    /// # Errors
    /// What is asked for is not there.
    pub fn choose(asked: CryptoChoice) -> Result<Self, CryptoError> {
        let chosen = match asked {
            CryptoChoice::Portable => Self::Portable,
            CryptoChoice::IpsecMb => ipsec_mb()?,
            CryptoChoice::Auto => ipsec_mb().unwrap_or_else(|why| {
                info!(%why, "portable cryptography");
                Self::Portable
            }),
        };
        let CryptoReport { mac, aead, layer } = chosen.report();
        info!(mac, aead, layer, "cryptography");
        Ok(chosen)
    }

    /// As reports show it.
    pub fn report(self) -> CryptoReport {
        let ipsec = match self {
            #[cfg(feature = "ipsec-mb")]
            Self::IpsecMb(level) => format!("ipsec-mb/{level}"),
            Self::Portable => "portable".to_owned(),
        };
        CryptoReport {
            mac: ipsec.clone(),
            aead: ipsec,
            layer: format!("ain/{}", Onion::default().level()),
        }
    }
}

#[cfg(feature = "ipsec-mb")]
fn ipsec_mb() -> Result<Chosen, CryptoError> {
    Ok(Chosen::IpsecMb(ipsec_mb_sys::IpsecMb::level()?))
}

#[cfg(not(feature = "ipsec-mb"))]
fn ipsec_mb() -> Result<Chosen, CryptoError> {
    Err(CryptoError::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_everywhere() {
        assert_eq!(Chosen::choose(CryptoChoice::Portable).unwrap(), Chosen::Portable);
        let report = Chosen::Portable.report();
        assert_eq!((&*report.mac, &*report.aead), ("portable", "portable"));
        assert!(report.layer.starts_with("ain/"), "{}", report.layer);
    }

    /// Auto is ipsec-mb exactly where asking for it by name succeeds.
    #[test]
    fn auto_takes_what_there_is() {
        let auto = Chosen::choose(CryptoChoice::Auto).unwrap();
        match Chosen::choose(CryptoChoice::IpsecMb) {
            Ok(named) => {
                assert_eq!(auto, named);
                assert!(named.report().aead.starts_with("ipsec-mb/"), "{:?}", named.report());
            }
            Err(why) => {
                assert_eq!(auto, Chosen::Portable);
                assert!(why.to_string().contains("ipsec-mb"), "{why}");
            }
        }
    }

    #[cfg(not(feature = "ipsec-mb"))]
    #[test]
    fn a_build_without_it_says_so() {
        let why = Chosen::choose(CryptoChoice::IpsecMb).unwrap_err().to_string();
        assert_eq!(why, "this build is without ipsec-mb (cargo feature `ipsec-mb`)");
    }
}
