// What the appliance's API answers: /api/v1/openapi.json describes it. Times are RFC 3339 text, spans nanoseconds.

export interface Scope {
  targets?: string[];
  protocols?: string[];
  expires?: string;
}

export interface Me {
  appliance: string;
  user: string;
  device: string;
  transport: string;
  source: string;
  admin: boolean;
  time: string;
  groups?: string[];
  mfa?: string;
  signed_in_until?: string;
  scope?: Scope;
  guest?: boolean;
  motd?: string;
}

export interface Target {
  name: string;
  vnet: string;
  protocols: Record<string, number[]>;
  labels?: Record<string, string>;
  host_keys?: string[];
  host_ca?: string[];
  credssp?: 'appliance' | 'browser' | 'off'; // of its desktop
  latest?: Reach;
  files?: boolean; // may be sent or fetched
  address?: string; // told to administrators who ask for all
}

export interface Grant {
  target: string;
  vnet: string;
  protocol: string;
  port: number;
  rule: string;
  channels?: string[];
  idle_ns?: number;
  lifetime_ns?: number;
  bandwidth_bits?: number;
  approval?: string[];
  record?: boolean;
  principals?: string[];
  share?: boolean; // guests may be let in, by a link
}

export interface Session {
  session: string;
  flow: string;
  user: string;
  device: string;
  target: string;
  address?: string;
  vnet: string;
  protocol: string;
  program?: string; // of the appliance's; none: the client speaks the protocol
  port: number;
  rule: string;
  transport: string;
  source: string;
  client: string;
  since: string;
  idle_ns: number;
  idle_limit_ns?: number;
  ends?: string;
  bandwidth_bits?: number;
  attached: number;
  detached_ns?: number;
  resumed?: string;
  gap_ns?: number;
  why?: string;
  lost?: string;
  rtt_ns?: number;
  up: number;
  down: number;
}

export interface Reach {
  time: string;
  ok: boolean;
  why?: string;
  hint?: string;
}

export interface Approval {
  id: string;
  user: string;
  device: string;
  target: string;
  vnet?: string;
  protocol: string;
  group: string;
  reason?: string;
  asked: string;
  expires: string;
  decided?: string;
  approved: boolean;
  by?: string;
  why?: string;
  may_decide: boolean;
}

export interface GuestLink {
  id: string;
  link?: string; // what opens it, once
  maker: string;
  target: string;
  vnet: string;
  protocol: string;
  programs?: string[];
  approval?: string;
  sign_in: boolean;
  created: string;
  expires: string;
  uses: number;
  used: number;
  revoked?: string;
  why?: string;
  opened?: { user: string; device: string; source: string; at: string }[];
}

export interface Device {
  device: string;
  user: string;
  name: string;
  platform?: string;
  enrolled: string;
  last_seen?: string;
  source?: string;
  version?: string;
  revoked?: string;
  scope?: Scope;
}

export interface Factors {
  source?: string; // of the account: local, or the identity provider; none: there is no account
  factors?: Factor[];
}

export interface Factor {
  kind: 'password' | 'passkey' | 'totp' | 'recovery';
  name?: string; // of a passkey
  added: string;
  used?: string;
  left?: number; // recovery codes
}

export interface ClientFile {
  name: string;
  version: string;
  system: 'linux' | 'darwin' | 'windows' | 'debian';
  arch: 'amd64' | 'arm64';
  size: number;
  sha256: string;
}

export interface Lock {
  kind: string;
  name: string;
  by?: string;
  why?: string;
  since?: string;
  until?: string;
}

export interface Code {
  code: string;
  user: string;
  expires: string;
  scope?: Scope;
}

export interface PolicyAccount {
  id: string;
  effect: string;
  place: string;
  actions?: string[];
  matched: boolean;
  why?: string;
  limits?: string[];
}

export interface Why {
  allowed: boolean;
  rule?: string;
  code?: string;
  error?: string;
  hint?: string;
  policies: PolicyAccount[];
  text: string;
}

export interface PolicyStatement {
  id: string;
  kind: 'rule' | 'policy';
  effect: string;
  place: string;
  limits?: string[];
  text: string;
}

export interface PolicyTest {
  ran: number;
  failures: string[];
}

export interface AccessVersion {
  version: number;
  created: string;
  by: string;
  comment?: string;
  hash: string;
  files?: Record<string, string>;
}

export interface Account {
  user: string;
  source: string;
  groups: string[];
  created: string;
  disabled?: string;
  last_login?: string;
  has?: string[];
}

export interface SetUp {
  user: string;
  path: string;
  expires: string;
}

export interface HostKey {
  target: string;
  fingerprint: string;
  key: string;
  seen: string;
  confirmed?: string;
  by?: string;
  refused?: boolean;
}

export interface AuditPage {
  events: AuditEvent[];
  next: number;
  more: boolean;
}

export interface AuditEvent {
  seq: number;
  time: string;
  event: string;
  session?: string;
  user?: string;
  device?: string;
  source?: string;
  transport?: string;
  target?: string;
  address?: string;
  protocol?: string;
  port?: number;
  policies?: string[];
  code?: string;
  why?: string;
  up?: number;
  down?: number;
  duration_ms?: number;
  by?: string;
  object?: string;
  detail?: Record<string, string>;
}

export interface Health {
  version: string;
  since: string;
  every_ns: number;
  cpus: number;
  samples: HealthSample[];
}

export interface HealthSample {
  time: string;
  flows: number;
  up_bits: number;
  down_bits: number;
  cpu: number;
  memory: number;
}

export interface Setting {
  key: string;
  value: string;
}
