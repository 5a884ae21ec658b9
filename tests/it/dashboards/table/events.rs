//! The pages over events.

use super::{Chart, Page};

/// Everything in Kibana.
pub const PAGES: &[Page] = &[
    Page {
        id: "overview",
        title: "Overview",
        about: "Everything that was audited: how much, of what, by whom.",
        query: "",
        charts: &[
            Chart::Count {
                title: "Events",
                query: "",
            },
            Chart::Count {
                title: "Failures",
                query: "event.outcome : failure",
            },
            Chart::Count {
                title: "Alerts",
                query: "event.kind : alert",
            },
            Chart::Distinct {
                title: "Users",
                field: "user.id",
            },
            Chart::OverTime {
                title: "Events by service",
                split: "event.provider",
            },
            Chart::Share {
                title: "Services",
                field: "event.provider",
            },
            Chart::Share {
                title: "Categories",
                field: "event.category",
            },
            Chart::Top {
                title: "Actions",
                fields: &["event.action", "event.provider"],
            },
            Chart::Top {
                title: "Busiest users",
                fields: &["user.id"],
            },
            Chart::Top {
                title: "Organisations",
                fields: &["organization.id"],
            },
        ],
    },
    Page {
        id: "sign-ins",
        title: "Sign-ins",
        about: "Successful sign-ins on a map; places need the stage `geoip`.",
        query: "event.category : authentication and event.outcome : success",
        charts: &[
            Chart::Map {
                title: "Where people sign in",
                field: "source.geo.location",
                tooltip: &[
                    "user.id",
                    "source.ip",
                    "source.geo.city_name",
                    "source.geo.country_name",
                ],
            },
            Chart::OverTime {
                title: "Sign-ins by country",
                split: "source.geo.country_name",
            },
            Chart::Share {
                title: "Browsers",
                field: "user_agent.name",
            },
            Chart::Share {
                title: "Systems",
                field: "user_agent.os.name",
            },
            Chart::Top {
                title: "Users and countries",
                fields: &["user.id", "source.geo.country_name"],
            },
            Chart::Top {
                title: "Networks",
                fields: &["source.as.organization.name"],
            },
        ],
    },
    Page {
        id: "failed-logons",
        title: "Failed logons",
        about: "Sign-ins that were refused: guessing, spraying, and people who forgot.",
        query: "event.category : authentication and event.outcome : failure",
        charts: &[
            Chart::Count {
                title: "Failed logons",
                query: "",
            },
            Chart::Distinct {
                title: "Users",
                field: "user.id",
            },
            Chart::Distinct {
                title: "Addresses",
                field: "source.ip",
            },
            Chart::OverTime {
                title: "Failed logons by country",
                split: "source.geo.country_name",
            },
            Chart::Top {
                title: "Users",
                fields: &["user.id"],
            },
            Chart::Top {
                title: "Addresses",
                fields: &["source.ip", "source.as.organization.name"],
            },
            Chart::Events {
                title: "Latest",
                columns: &[
                    "user.id",
                    "source.ip",
                    "event.action",
                    "user_agent.original",
                ],
            },
        ],
    },
    Page {
        id: "admin-changes",
        title: "Admin changes",
        about: "Changes of users, groups, rights, mailboxes and settings.",
        query: "event.code : (ExchangeAdmin or AzureActiveDirectory) or event.category : (iam or configuration)",
        charts: &[
            Chart::OverTime {
                title: "Changes by action",
                split: "event.action",
            },
            Chart::Top {
                title: "Who changed what",
                fields: &["user.id", "event.action"],
            },
            Chart::Top {
                title: "Whose rights were changed",
                fields: &["user.target.id", "event.action"],
            },
            Chart::Top {
                title: "Groups",
                fields: &["group.name", "event.action"],
            },
            Chart::Events {
                title: "Latest",
                columns: &[
                    "user.id",
                    "event.action",
                    "user.target.id",
                    "event.outcome",
                    "source.ip",
                ],
            },
        ],
    },
    Page {
        id: "file-activity",
        title: "File activity",
        about: "What was read, changed, shared and deleted in SharePoint and OneDrive.",
        query: "event.category : file or event.code : (SharePointFileOperation or SharePointSharingOperation)",
        charts: &[
            Chart::OverTime {
                title: "Activity by action",
                split: "event.action",
            },
            Chart::Top {
                title: "Users",
                fields: &["user.id", "event.action"],
            },
            Chart::Top {
                title: "Files",
                fields: &["file.name", "file.directory"],
            },
            Chart::Share {
                title: "Kinds of files",
                field: "file.extension",
            },
            Chart::Top {
                title: "Addresses",
                fields: &["source.ip"],
            },
        ],
    },
    Page {
        id: "alerts",
        title: "Alerts",
        about: "What Microsoft's own detections and data loss rules found.",
        query: "event.kind : alert",
        charts: &[
            Chart::Count {
                title: "Alerts",
                query: "",
            },
            Chart::OverTime {
                title: "Alerts by rule",
                split: "rule.name",
            },
            Chart::Top {
                title: "Rules",
                fields: &["rule.name", "rule.category"],
            },
            Chart::Share {
                title: "Severities",
                field: "event.severity",
            },
            Chart::Top {
                title: "Users",
                fields: &["user.id"],
            },
            Chart::Events {
                title: "Latest",
                columns: &["rule.name", "event.severity", "user.id", "message"],
            },
        ],
    },
];
