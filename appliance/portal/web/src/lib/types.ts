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
}

export interface Target {
  name: string;
  vnet: string;
  protocols: Record<string, number[]>;
  labels?: Record<string, string>;
  host_keys?: string[];
  host_ca?: string[];
}

export interface Grant {
  target: string;
  vnet: string;
  protocol: string;
  port: number;
  rule: string;
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
