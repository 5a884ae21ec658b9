//! The five content types: their names, the tables they show in content ids, and what arrives in
//! them.

/// One of the five feeds of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ContentType {
    /// Entra ID sign-ins and directory changes.
    AzureActiveDirectory,
    /// Mailboxes and Exchange administration.
    Exchange,
    /// SharePoint and OneDrive.
    SharePoint,
    /// Everything else.
    General,
    /// Data loss prevention; needs a permission of its own.
    Dlp,
}

impl ContentType {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::AzureActiveDirectory,
        Self::Exchange,
        Self::SharePoint,
        Self::General,
        Self::Dlp,
    ];

    /// The name in requests, such as `Audit.Exchange`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AzureActiveDirectory => "Audit.AzureActiveDirectory",
            Self::Exchange => "Audit.Exchange",
            Self::SharePoint => "Audit.SharePoint",
            Self::General => "Audit.General",
            Self::Dlp => "DLP.All",
        }
    }

    /// The content type of this name, compared without case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Where records of this type arrive, by convention.
    pub fn of_record_type(record_type: i64) -> Self {
        match record_type {
            8 | 9 | 15 | 52 | 294 => Self::AzureActiveDirectory,
            1 | 2 | 3 | 19 | 50 | 275 => Self::Exchange,
            4 | 6 | 7 | 14 | 36 | 37 | 54 | 55 | 56 => Self::SharePoint,
            11 | 13 | 33 | 63 | 99 | 100 | 107 => Self::Dlp,
            _ => Self::General,
        }
    }

    /// The table named in content ids, such as `Audit_Exchange`.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::AzureActiveDirectory => "Audit_AzureActiveDirectory",
            Self::Exchange => "Audit_Exchange",
            Self::SharePoint => "Audit_SharePoint",
            Self::General => "Audit_General",
            Self::Dlp => "DLP_All",
        }
    }

    /// The app role that reading it takes.
    pub(crate) fn role(self) -> &'static str {
        match self {
            Self::Dlp => "ActivityFeed.ReadDlp",
            _ => "ActivityFeed.Read",
        }
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self as u8)
    }
}
