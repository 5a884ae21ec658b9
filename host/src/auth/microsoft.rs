//! Microsoft's clouds: where each one signs in, and where its API is.

use schemars::JsonSchema;
use serde::Deserialize;

/// One of Microsoft's clouds. A token of one is useless in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "cloud", inline)]
pub enum Cloud {
    /// The public cloud: `login.microsoftonline.com`, `manage.office.com`.
    #[default]
    Commercial,
    /// US government, moderate: `login.microsoftonline.com`, `manage-gcc.office.com`.
    Gcc,
    /// US government, high: `login.microsoftonline.us`, `manage.office365.us`.
    GccHigh,
    /// US Department of Defense: `login.microsoftonline.us`, `manage.protection.apps.mil`.
    Dod,
    /// China, run by 21Vianet: `login.partner.microsoftonline.cn`, `manage.office365.cn`.
    China,
    /// Whatever `login_url` and `resource_url` say: a private cloud, a gateway, a test server.
    Custom,
}

impl Cloud {
    /// Where its tenants sign in; `None` for the custom one.
    pub fn login_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial | Self::Gcc => Some("https://login.microsoftonline.com"),
            Self::GccHigh | Self::Dod => Some("https://login.microsoftonline.us"),
            Self::China => Some("https://login.partner.microsoftonline.cn"),
            Self::Custom => None,
        }
    }

    /// Its Management Activity API, which is also what tokens are for; `None` for the custom one.
    pub fn resource_url(self) -> Option<&'static str> {
        match self {
            Self::Commercial => Some("https://manage.office.com"),
            Self::Gcc => Some("https://manage-gcc.office.com"),
            Self::GccHigh => Some("https://manage.office365.us"),
            Self::Dod => Some("https://manage.protection.apps.mil"),
            Self::China => Some("https://manage.office365.cn"),
            Self::Custom => None,
        }
    }
}
