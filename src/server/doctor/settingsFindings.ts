/** Findings about valid but risky settings. Pure. */
import { subnetCount } from "#network/addresses.ts"
import type { Finding } from "#schema/doctor.ts"
import { acceptsRemotePlaintext, requiresProxyHeaderFromLoopback, type SettingsValues } from "#server/Settings.ts"
import { Duration, Option } from "effect"
import { okFinding, problemFinding } from "./findings.ts"

export const settingsFindings = (
  settings: SettingsValues,
  { agents, highestSubnetIndex }: { readonly agents: number; readonly highestSubnetIndex: number }
): ReadonlyArray<Finding> => {
  const problems = [...poolFindings(settings.networkPool, agents, highestSubnetIndex), ...riskySettings(settings)]
  return problems.length > 0 ? problems : [okFinding("settings", "settings are consistent")]
}

/** The findings that need no database. */
export const riskySettings = (settings: SettingsValues): ReadonlyArray<Finding> => [
  ...!acceptsRemotePlaintext(settings.apiHost, settings) ? [] : [problemFinding("settings", "warn", [
    `CONTROL_API_HOST is ${settings.apiHost}: the API accepts plaintext connections from other machines`,
    "anyone on the network path can read the admin token",
    `set CONTROL_API_HOST to 127.0.0.1, or ${encrypt}`
  ])],
  ...!acceptsRemotePlaintext(settings.wsHost, settings) ? [] : [problemFinding("settings", "note", [
    `CONTROL_WS_HOST is ${settings.wsHost}: agents and gateways can connect in plaintext`,
    "anyone on the network path can read API keys and WireGuard keys",
    encrypt
  ])],
  ...proxyFindings(settings),
  ...Duration.isGreaterThan(Duration.times(settings.heartbeatInterval, 2), settings.heartbeatTimeout) &&
      Duration.isGreaterThan(settings.heartbeatInterval, Duration.seconds(30))
    ? [problemFinding("settings", "warn", [
      "CONTROL_HEARTBEAT_INTERVAL is more than half of CONTROL_HEARTBEAT_TIMEOUT",
      "a client that has disappeared stays online for nearly twice the timeout",
      "set CONTROL_HEARTBEAT_INTERVAL to at most half of CONTROL_HEARTBEAT_TIMEOUT"
    ])]
    : [],
  ...Duration.isLessThan(settings.heartbeatTimeout, Duration.seconds(30)) ?
    [problemFinding("settings", "warn", [
      `CONTROL_HEARTBEAT_TIMEOUT is ${Duration.toSeconds(settings.heartbeatTimeout)} seconds`,
      "clients of the plain protocol send a heartbeat every 30 seconds, so that Control closes them between two heartbeats",
      "set CONTROL_HEARTBEAT_TIMEOUT to 60 seconds or more"
    ])] :
    [],
  ...settings.maxUnauthenticatedPerIp <= settings.maxUnauthenticated ? [] : [problemFinding("settings", "note", [
    "CONTROL_MAX_UNAUTHENTICATED_PER_IP is above CONTROL_MAX_UNAUTHENTICATED",
    "one address gets at most half of the unauthenticated connections",
    "set CONTROL_MAX_UNAUTHENTICATED_PER_IP to at most half, and list a proxy of many clients in CONTROL_TRUSTED_PROXIES"
  ])],
  ...settings.exposedFiles.map((name) =>
    problemFinding("settings", "warn", [
      `other users can read or write the file of ${name}`,
      "a person who reads or replaces the secret can act as an admin, or read private keys",
      "set the mode of the file to 0640 or 0600"
    ])
  ),
  ...Option.isSome(settings.databaseUrl) && Option.isNone(settings.masterKey) ?
    [problemFinding("settings", "note", [
      "the database is not in the data directory, but the master key is a file in it",
      "without this file every private key in the database is unreadable",
      "keep a copy of the file, or set CONTROL_MASTER_KEY_FILE"
    ])] :
    []
]

const proxyFindings = (settings: SettingsValues): ReadonlyArray<Finding> => [
  ...settings.trustedProxies.every(({ length }) => length > 0) ? [] : [problemFinding("settings", "warn", [
    "CONTROL_TRUSTED_PROXIES trusts every address",
    "any client can forge its address and claim TLS, and so evade the audit log and the limits for each address",
    "set CONTROL_TRUSTED_PROXIES to the networks of your proxies"
  ])],
  ...!requiresProxyHeaderFromLoopback(settings) ? [] : [problemFinding("settings", "warn", [
    "CONTROL_PROXY_PROTOCOL requires a PROXY header from callers on this machine, because loopback is trusted",
    "health checks on this machine send no such header, so that the API closes their connections",
    "set CONTROL_PROXY_PROTOCOL to ws, or remove loopback from CONTROL_TRUSTED_PROXIES"
  ])],
  ...!settings.requireTls || settings.proxyProtocol === "off" || Option.isSome(settings.tlsCertificate) ?
    []
    : [problemFinding("settings", "warn", [
      "CONTROL_REQUIRE_TLS rejects plaintext, and a load balancer with CONTROL_PROXY_PROTOCOL forwards plaintext if it ends TLS",
      "the PROXY header does not say whether the client used TLS, so that Control rejects these connections",
      "set CONTROL_TLS_CERTIFICATE so that Control ends TLS, or let the load balancer speak HTTP with X-Forwarded-Proto"
    ])]
]

const poolFindings = (pool: string, agents: number, highestSubnetIndex: number): ReadonlyArray<Finding> => {
  const subnets = subnetCount(pool)
  if (agents >= subnets) {
    return [problemFinding("settings", "fail", [
      `CONTROL_NETWORK_POOL ${pool} has ${subnets} subnets, and there are ${agents} agents`,
      "no agent can be created",
      "delete unused agents, or set a larger pool; existing agents keep their subnets"
    ])]
  }
  if (highestSubnetIndex >= subnets) {
    return [problemFinding("settings", "warn", [
      `CONTROL_NETWORK_POOL ${pool} has fewer subnets than agents already use`,
      "some agents have addresses outside the pool, which routes to the pool do not cover",
      "set the previous pool"
    ])]
  }
  return agents < subnets * 0.9 ? [] : [problemFinding("settings", "warn", [
    `${agents} of the ${subnets} subnets of CONTROL_NETWORK_POOL ${pool} are in use`,
    "soon no more agents can be created",
    "delete unused agents, or set a larger pool"
  ])]
}

const encrypt = "set CONTROL_TLS_CERTIFICATE and CONTROL_TLS_PRIVATE_KEY, or set " +
  "CONTROL_TRUSTED_PROXIES to the address of the proxy that ends TLS"
