//! Record type numbers and the names that become `event.code`.
//!
//! `KNOWN` is what every document uses. `LATER` holds names Microsoft published after the reference
//! mapping was written; they are used only with the option `later_record_types`, because documents
//! elsewhere have no code.

/// A record type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordType {
    /// `RecordType` of the record.
    pub number: u16,
    /// `event.code` of the event.
    pub code: &'static str,
}

const fn row(number: u16, code: &'static str) -> RecordType {
    RecordType { number, code }
}

/// The numbers that rules ask for.
pub(crate) mod number {
    pub(crate) const EXCHANGE_ADMIN: u16 = 1;
    pub(crate) const EXCHANGE_ITEM: u16 = 2;
    pub(crate) const SHAREPOINT_FILE: u16 = 6;
    pub(crate) const DIRECTORY: u16 = 8;
    pub(crate) const DLP_SHAREPOINT: u16 = 11;
    pub(crate) const DLP_EXCHANGE: u16 = 13;
    pub(crate) const SHAREPOINT_SHARING: u16 = 14;
    pub(crate) const DIRECTORY_LOGON: u16 = 15;
    pub(crate) const YAMMER: u16 = 22;
    pub(crate) const TEAMS: u16 = 25;
    pub(crate) const ALERTS: u16 = 40;
    pub(crate) const EXCHANGE_AGGREGATED: u16 = 50;
    pub(crate) const AIR_INVESTIGATION: u16 = 64;
}

/// The record type of this number, as the digits of `RecordType` say it.
pub(crate) fn find(digits: &[u8], later: bool) -> Option<&'static RecordType> {
    if !matches!(digits, [b'1'..=b'9', ..]) || digits.len() > 4 {
        return None;
    }
    let digit = |number, &byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        Some(number * 10 + digit)
    };
    let number = digits.iter().try_fold(0, digit)?;
    let look_up = |table: &'static [RecordType]| {
        let index = table.binary_search_by_key(&number, |row| row.number).ok()?;
        table.get(index)
    };
    look_up(KNOWN).or_else(|| if later { look_up(LATER) } else { None })
}

/// The record type of this name.
pub(crate) fn find_name(name: &[u8]) -> Option<&'static RecordType> {
    KNOWN.iter().find(|row| row.code.as_bytes() == name)
}

/// The record types of every profile.
#[rustfmt::skip]
pub const KNOWN: &[RecordType] = &[
    row(1, "ExchangeAdmin"),
    row(2, "ExchangeItem"),
    row(3, "ExchangeItemGroup"),
    row(4, "SharePoint"),
    row(6, "SharePointFileOperation"),
    row(7, "OneDrive"),
    row(8, "AzureActiveDirectory"),
    row(9, "AzureActiveDirectoryAccountLogon"),
    row(10, "DataCenterSecurityCmdlet"),
    row(11, "ComplianceDLPSharePoint"),
    row(12, "Sway"),
    row(13, "ComplianceDLPExchange"),
    row(14, "SharePointSharingOperation"),
    row(15, "AzureActiveDirectoryStsLogon"),
    row(16, "SkypeForBusinessPSTNUsage"),
    row(17, "SkypeForBusinessUsersBlocked"),
    row(18, "SecurityComplianceCenterEOPCmdlet"),
    row(19, "ExchangeAggregatedOperation"),
    row(20, "PowerBIAudit"),
    row(21, "CRM"),
    row(22, "Yammer"),
    row(23, "SkypeForBusinessCmdlets"),
    row(24, "Discovery"),
    row(25, "MicrosoftTeams"),
    row(28, "ThreatIntelligence"),
    row(29, "MailSubmission"),
    row(30, "MicrosoftFlow"),
    row(31, "AeD"),
    row(32, "MicrosoftStream"),
    row(33, "ComplianceDLPSharePointClassification"),
    row(34, "ThreatFinder"),
    row(35, "Project"),
    row(36, "SharePointListOperation"),
    row(37, "SharePointCommentOperation"),
    row(38, "DataGovernance"),
    row(39, "Kaizala"),
    row(40, "SecurityComplianceAlerts"),
    row(41, "ThreatIntelligenceUrl"),
    row(42, "SecurityComplianceInsights"),
    row(43, "MIPLabel"),
    row(44, "WorkplaceAnalytics"),
    row(45, "PowerAppsApp"),
    row(46, "PowerAppsPlan"),
    row(47, "ThreatIntelligenceAtpContent"),
    row(48, "LabelContentExplorer"),
    row(49, "TeamsHealthcare"),
    row(50, "ExchangeItemAggregated"),
    row(51, "HygieneEvent"),
    row(52, "DataInsightsRestApiAudit"),
    row(53, "InformationBarrierPolicyApplication"),
    row(54, "SharePointListItemOperation"),
    row(55, "SharePointContentTypeOperation"),
    row(56, "SharePointFieldOperation"),
    row(57, "MicrosoftTeamsAdmin"),
    row(58, "HRSignal"),
    row(59, "MicrosoftTeamsDevice"),
    row(60, "MicrosoftTeamsAnalytics"),
    row(61, "InformationWorkerProtection"),
    row(62, "Campaign"),
    row(63, "DLPEndpoint"),
    row(64, "AirInvestigation"),
    row(65, "Quarantine"),
    row(66, "MicrosoftForms"),
    row(67, "ApplicationAudit"),
    row(68, "ComplianceSupervisionExchange"),
    row(69, "CustomerKeyServiceEncryption"),
    row(70, "OfficeNative"),
    row(71, "MipAutoLabelSharePointItem"),
    row(72, "MipAutoLabelSharePointPolicyLocation"),
    row(73, "MicrosoftTeamsShifts"),
    row(75, "MipAutoLabelExchangeItem"),
    row(76, "CortanaBriefing"),
    row(78, "WDATPAlerts"),
    row(82, "SensitivityLabelPolicyMatch"),
    row(83, "SensitivityLabelAction"),
    row(84, "SensitivityLabeledFileAction"),
    row(85, "AttackSim"),
    row(86, "AirManualInvestigation"),
    row(87, "SecurityComplianceRBAC"),
    row(88, "UserTraining"),
    row(89, "AirAdminActionInvestigation"),
    row(90, "MSTIC"),
    row(91, "PhysicalBadgingSignal"),
    row(93, "AipDiscover"),
    row(94, "AipSensitivityLabelAction"),
    row(95, "AipProtectionAction"),
    row(96, "AipFileDeleted"),
    row(97, "AipHeartBeat"),
    row(98, "MCASAlerts"),
    row(99, "OnPremisesFileShareScannerDlp"),
    row(100, "OnPremisesSharePointScannerDlp"),
    row(101, "ExchangeSearch"),
    row(102, "SharePointSearch"),
    row(103, "PrivacyInsights"),
    row(105, "MyAnalyticsSettings"),
    row(106, "SecurityComplianceUserChange"),
    row(107, "ComplianceDLPExchangeClassification"),
    row(109, "MipExactDataMatch"),
    row(113, "MS365DCustomDetection"),
    row(147, "CoreReportingSettings"),
    row(148, "ComplianceConnector"),
    row(174, "DataShareOperation"),
    row(181, "EduDataLakeDownloadOperation"),
];

/// Record types of later years.
#[rustfmt::skip]
pub const LATER: &[RecordType] = &[
    row(79, "PowerAppsResource"),
    row(92, "TeamsEasyApprovals"),
    row(154, "OMEPortal"),
    row(157, "MipLabelAnalyticsAuditRecord"),
    row(164, "ScorePlatformGenericAuditRecord"),
    row(183, "MicrosoftGraphDataConnectOperation"),
    row(186, "PowerPagesSite"),
    row(187, "PowerPlatformAdminDlp"),
    row(188, "PlannerPlan"),
    row(189, "PlannerCopyPlan"),
    row(190, "PlannerTask"),
    row(191, "PlannerRoster"),
    row(192, "PlannerPlanList"),
    row(193, "PlannerTaskList"),
    row(194, "PlannerTenantSettings"),
    row(195, "ProjectForThewebProject"),
    row(196, "ProjectForThewebTask"),
    row(197, "ProjectForThewebRoadmap"),
    row(198, "ProjectForThewebRoadmapItem"),
    row(199, "ProjectForThewebProjectSettings"),
    row(200, "ProjectForThewebRoadmapSettings"),
    row(202, "MicrosoftTodoAudit"),
    row(206, "MicrosoftTeamsSensitivityLabelAction"),
    row(216, "VivaGoals"),
    row(217, "MicrosoftGraphDataConnectConsent"),
    row(218, "AttackSimAdmin"),
    row(230, "TeamsUpdates"),
    row(231, "PlannerRosterSensitivityLabel"),
    row(235, "MicrosoftDefenderForIdentityAudit"),
    row(237, "DefenderExpertsforXDRAdmin"),
    row(251, "VfamCreatePolicy"),
    row(252, "VfamUpdatePolicy"),
    row(253, "VfamDeletePolicy"),
    row(256, "PowerPlatformAdministratorActivity"),
    row(257, "Windows365CustomerLockbox"),
    row(261, "CopilotInteraction"),
    row(265, "VivaLearning"),
    row(266, "VivaLearningAdmin"),
    row(269, "PeopleAdminSettings"),
    row(275, "OWAAuth"),
    row(277, "SharePointESignature"),
    row(278, "Dynamics365BusinessCentral"),
    row(279, "MeshWorlds"),
    row(280, "VivaPulseResponse"),
    row(281, "VivaPulseOrganizer"),
    row(282, "VivaPulseAdmin"),
    row(283, "VivaPulseReport"),
    row(284, "AIAppInteraction"),
    row(285, "ComplianceDLMExchange"),
    row(286, "ComplianceDLMSharePoint"),
    row(287, "ProjectForThewebAssignedToMeSettings"),
    row(288, "CloudPolicyService"),
    row(291, "SensitiveInfoDiscovered"),
    row(292, "InsiderRiskScopedUserInsights"),
    row(293, "MicrosoftTeamsRetentionLabelAction"),
    row(294, "AadRiskDetection"),
    row(295, "AuditSearch"),
    row(296, "AuditRetentionPolicy"),
    row(297, "AuditConfig"),
    row(298, "BackupPolicy"),
    row(299, "RestoreTask"),
    row(300, "RestoreItem"),
    row(301, "BackupItem"),
    row(302, "URBACAssignment"),
    row(303, "URBACRole"),
    row(304, "URBACEnableState"),
    row(306, "PurviewInsiderRiskCases"),
    row(307, "PurviewInsiderRiskAlerts"),
    row(308, "InsiderRiskScopedUsers"),
    row(310, "CreateCopilotPlugin"),
    row(311, "UpdateCopilotPlugin"),
    row(312, "DeleteCopilotPlugin"),
    row(313, "EnableCopilotPlugin"),
    row(314, "DisableCopilotPlugin"),
    row(315, "CreateCopilotWorkspace"),
    row(316, "UpdateCopilotWorkspace"),
    row(317, "DeleteCopilotWorkspace"),
    row(318, "EnableCopilotWorkspace"),
    row(319, "DisableCopilotWorkspace"),
    row(320, "CreateCopilotPromptBook"),
    row(321, "UpdateCopilotPromptBook"),
    row(322, "DeleteCopilotPromptBook"),
    row(323, "EnableCopilotPromptBook"),
    row(324, "DisableCopilotPromptBook"),
    row(325, "UpdateCopilotSettings"),
    row(328, "ConnectedAIAppInteraction"),
    row(329, "PrivaPrivacyConsentOperation"),
    row(330, "PrivaPrivacyAssessmentOperation"),
    row(331, "DataCatalogAccessRequests"),
    row(332, "ComplianceSettingsChange"),
    row(333, "DataSecurityInvestigation"),
    row(334, "TeamCopilotInteraction"),
    row(335, "IRMActivityAuditTrail"),
    row(336, "SharePointContentSecurityPolicy"),
    row(337, "CloudUpdateProfileConfig"),
    row(338, "CloudUpdateTenantConfig"),
    row(339, "CloudUpdateDeviceConfig"),
    row(341, "DeviceDiscoverySettingsExclusion"),
    row(342, "DeviceDiscoverySettingsAuthenticatedScans"),
    row(344, "DeviceDiscoverySettings"),
    row(345, "USXWorkspaceOnboarding"),
    row(346, "VivaGlintAdvancedConfiguration"),
    row(347, "VivaGlintPulseProgram"),
    row(348, "VivaGlintPulseProgramRespondentRate"),
    row(349, "VivaGlintQuestion"),
    row(350, "VivaGlintRole"),
    row(351, "VivaGlintRubicon"),
    row(352, "VivaGlintSupportAccess"),
    row(353, "VivaGlintSystem"),
    row(354, "VivaGlintUser"),
    row(355, "VivaGlintUserGroup"),
    row(356, "VivaGlintFeedbackProgram"),
    row(357, "FabricAudit"),
    row(358, "TrainableClassifier"),
    row(359, "WebContentFiltering"),
    row(360, "NoisyAlertPolicy"),
    row(361, "DataScanClassification"),
    row(362, "AIInteractionsExport"),
    row(363, "Microsoft365CopilotScheduledPrompt"),
    row(364, "PlacesDirectory"),
    row(365, "SentinelNotebookOnLake"),
    row(366, "SentinelJob"),
    row(367, "SentinelKQLOnLake"),
    row(368, "SentinelLakeOnboarding"),
    row(369, "SentinelLakeDataOnboarding"),
    row(370, "SentinelAITool"),
    row(371, "SentinelGraph"),
    row(372, "CrossTenantAccessPolicy"),
    row(373, "OutlookCopilotAutomation"),
    row(374, "VivaEngageNetworkAssociation"),
    row(375, "AppAdminActivity"),
    row(376, "AppSettingsAdminActivity"),
    row(377, "UniversalPrintPrintJob"),
    row(378, "VivaAmplifyOutlookSensitivityLabel"),
    row(379, "AIInteractionsSubscription"),
    row(380, "AIInteractionsChangeNotification"),
    row(381, "FilteringMailMetadataExtended"),
    row(382, "OfficeRestrictedModeAction"),
    row(383, "CopilotForSecurityTrigger"),
    row(384, "CopilotAgentManagement"),
    row(385, "P4AIAssessmentFabricScannerRecord"),
    row(386, "PlannerGoal"),
    row(387, "PlannerGoalList"),
    row(401, "PlannerChatMessage"),
    row(402, "PlannerChatMessageList"),
    row(414, "VivaEngageSegment"),
    row(422, "VivaEngageEvents"),
    row(427, "UniversalPrintManagement"),
    row(430, "PurviewPostureAgent"),
    row(431, "GranularBrowseTask"),
    row(444, "TeamsEvalDataHubDataAccess"),
    row(445, "TeamsEvalDataHubPermissionChange"),
    row(454, "DragonCopilotAdmin"),
    row(462, "MicrosoftTeamsUserConcern"),
    row(463, "VivaGlintAgenticCampaign"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_found() {
        for table in [KNOWN, LATER] {
            assert!(table.is_sorted_by(|a, b| a.number < b.number));
            for row in table {
                assert_eq!(find(row.number.to_string().as_bytes(), true), Some(row));
                assert!(
                    row.code.bytes().all(|byte| byte.is_ascii_alphanumeric()),
                    "{}",
                    row.code
                );
            }
        }
        assert_eq!(KNOWN.len(), 103);
        for row in KNOWN {
            assert_eq!(find_name(row.code.as_bytes()), Some(row));
        }
    }

    #[test]
    fn other_spellings_have_no_code() {
        for digits in ["015", "15.0", "-1", "", "5", "+1", "99999999999", "261"] {
            assert_eq!(find(digits.as_bytes(), false), None, "{digits}");
        }
        assert_eq!(
            find(b"261", true).map(|row| row.code),
            Some("CopilotInteraction")
        );
    }
}
