package audit

import (
	"log/slog"
	"regexp"
)

// The kinds of events. docs/audit.md says when each is written and which fields it has.
const (
	SignInOK      = "sign-in.ok"
	SignInRefused = "sign-in.refused"

	DeviceEnrolled = "device.enrolled"
	DeviceRevoked  = "device.revoked"
	CodeMade       = "code.made"

	DecisionAllowed = "decision.allowed"
	DecisionRefused = "decision.refused"

	FlowOpen   = "flow.open"
	FlowAttach = "flow.attach"
	FlowDetach = "flow.detach"
	FlowMove   = "flow.move"
	FlowEnd    = "flow.end"

	FileUploaded   = "file.uploaded"
	FileDownloaded = "file.downloaded"
	FileRenamed    = "file.renamed"
	FileRemoved    = "file.removed"
	FolderMade     = "folder.made"

	SessionKilled  = "session.killed"
	SessionMessage = "session.message"

	ClipboardIn  = "clipboard.in"
	ClipboardOut = "clipboard.out"

	CertificateIssued = "certificate.issued"
	TargetIdentity    = "target.identity"
	HostKeyConfirmed  = "hostkey.confirmed"
	HostKeyForgotten  = "hostkey.forgotten"

	ApprovalAsked   = "approval.asked"
	ApprovalGiven   = "approval.given"
	ApprovalRefused = "approval.refused"

	GuestMade    = "guest.made"
	GuestOpened  = "guest.opened"
	GuestRefused = "guest.refused"
	GuestRevoked = "guest.revoked"

	AccountCreated  = "account.created"
	AccountSetUp    = "account.setup"
	AccountReady    = "account.ready"
	AccountChanged  = "account.changed"
	AccountDisabled = "account.disabled"
	AccountEnabled  = "account.enabled"
	AccountRemoved  = "account.removed"
	SignInEnded     = "sign-in.ended"

	AccessChanged = "access.changed"
	Locked        = "lock.made"
	Unlocked      = "lock.removed"
	RecordingRead = "recording.read"

	ClientsChanged = "clients.changed"

	UpdateInstalled  = "update.installed"
	UpdateRolledBack = "update.rolled-back"
	UpdateRestart    = "update.restart"

	DaemonStart = "daemon.start"
	DaemonStop  = "daemon.stop"
)

// The kinds that the log writes about itself.
const (
	Retention = "audit.retention" // segments are about to be removed
	Torn      = "audit.torn"      // the rest of a line that was never whole has been cut off
	Trouble   = "audit.trouble"   // for a while lines could not be written, or not be made safe
	HeadKind  = "head"            // a signed head
)

// Levels of the kinds that are more than information, for exporters whose receivers want one.
var levels = map[string]slog.Level{
	SignInRefused:   slog.LevelWarn,
	DecisionRefused: slog.LevelWarn,
	SessionKilled:   slog.LevelWarn,
	TargetIdentity:  slog.LevelError,
	ApprovalRefused: slog.LevelWarn,
	GuestRefused:    slog.LevelWarn,
	DeviceRevoked:   slog.LevelWarn,
	AccountDisabled: slog.LevelWarn,
	AccountRemoved:  slog.LevelWarn,
	Locked:          slog.LevelWarn,
	UpdateRestart:   slog.LevelWarn,
	Torn:            slog.LevelError,
	Trouble:         slog.LevelError,
}

// level says how grave an event is. Removing what an exporter has not passed on is an error, else retention is none.
func level(e Event) slog.Level {
	if e.Kind == Retention && e.Code != "" {
		return slog.LevelError
	}
	return levels[e.Kind]
}

// kindForm keeps kinds short and plain enough for every receiver: syslog's MSGID has 32 characters.
var kindForm = regexp.MustCompile(`^[a-z0-9]+([.-][a-z0-9]+)*$`)

const maxKind = 32
