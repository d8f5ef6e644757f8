/** Settings that are allowed, and that an operator may not have meant. Pure. */
import { subnetCount } from "#network/addresses.ts"
import type { Finding } from "#schema/doctor.ts"
import { isOpenInPlaintext, isOwnMachineShutOut, type SettingsValues } from "#server/Settings.ts"
import { Duration, Option } from "effect"
import { okFinding, problemFinding } from "./findings.ts"

export const settingsFindings = (
  settings: SettingsValues,
  { agents, highestSubnetIndex }: { readonly agents: number; readonly highestSubnetIndex: number }
): ReadonlyArray<Finding> => {
  const problems = [...poolFindings(settings.networkPool, agents, highestSubnetIndex), ...riskySettings(settings)]
  return problems.length > 0 ? problems : [okFinding("settings", "no two settings fight each other")]
}

/** What needs no database to be told. */
export const riskySettings = (settings: SettingsValues): ReadonlyArray<Finding> => [
  ...!isOpenInPlaintext(settings.apiHost, settings) ? [] : [problemFinding("settings", "warn", [
    `CONTROL_API_HOST is ${settings.apiHost}: operators reach the API from other machines in plaintext`,
    "whoever is on the way reads the admin token",
    `leave it at 127.0.0.1, or ${encrypt}`
  ])],
  ...!isOpenInPlaintext(settings.wsHost, settings) ? [] : [problemFinding("settings", "note", [
    `CONTROL_WS_HOST is ${settings.wsHost}: agents and gateways connect in plaintext`,
    "whoever is on the way reads API keys and WireGuard's private keys",
    encrypt
  ])],
  ...proxyFindings(settings),
  ...Duration.isGreaterThan(Duration.times(settings.heartbeatInterval, 2), settings.heartbeatTimeout) &&
      Duration.isGreaterThan(settings.heartbeatInterval, Duration.seconds(30))
    ? [problemFinding("settings", "warn", [
      "CONTROL_HEARTBEAT_INTERVAL is more than half of CONTROL_HEARTBEAT_TIMEOUT",
      "a client that is gone is shown online for nearly twice the time-out",
      "look at least twice in a time-out"
    ])]
    : [],
  ...Duration.isLessThan(settings.heartbeatTimeout, Duration.seconds(30)) ?
    [problemFinding("settings", "warn", [
      `CONTROL_HEARTBEAT_TIMEOUT is ${Duration.toSeconds(settings.heartbeatTimeout)} seconds`,
      "clients of the plain protocol send a heartbeat every 30 seconds, and are closed for silence between two",
      "leave it at 60 seconds or more"
    ])] :
    [],
  ...settings.maxUnauthenticatedPerIp <= settings.maxUnauthenticated ? [] : [problemFinding("settings", "note", [
    "CONTROL_MAX_UNAUTHENTICATED_PER_IP is above CONTROL_MAX_UNAUTHENTICATED",
    "one address can take all places there are",
    "keep it below, unless all clients come through one proxy"
  ])],
  ...Option.isSome(settings.databaseUrl) && Option.isNone(settings.masterKey) ?
    [problemFinding("settings", "note", [
      "the database is elsewhere, and the master key is a file in the data directory",
      "lost with the data directory, it takes every private key in the database with it",
      "keep a copy of the file, or give the key as CONTROL_MASTER_KEY_FILE"
    ])] :
    []
]

const proxyFindings = (settings: SettingsValues): ReadonlyArray<Finding> => [
  ...settings.trustedProxies.every(({ length }) => length > 0) ? [] : [problemFinding("settings", "warn", [
    "CONTROL_TRUSTED_PROXIES trusts every address",
    "whoever connects says from where and whether it was encrypted: the audit and all limits by address can be got around",
    "name the networks from which your proxies connect"
  ])],
  ...!isOwnMachineShutOut(settings) ? [] : [problemFinding("settings", "warn", [
    "CONTROL_PROXY_PROTOCOL demands a header of whoever calls the API from this machine, since loopback is trusted",
    "`control` and health checks on this machine send none, and their connections are closed",
    "set it to ws, or take loopback out of CONTROL_TRUSTED_PROXIES"
  ])],
  ...!settings.requireTls || settings.proxyProtocol === "off" || Option.isSome(settings.tlsCertificate) ?
    []
    : [problemFinding("settings", "warn", [
      "CONTROL_REQUIRE_TLS refuses plaintext, and with CONTROL_PROXY_PROTOCOL the balancer passes on what it gets",
      "its header does not tell of TLS that the balancer takes off, so whoever comes by it is refused",
      "let Control speak TLS (CONTROL_TLS_CERTIFICATE), or the balancer HTTP, with X-Forwarded-Proto"
    ])]
]

const poolFindings = (pool: string, agents: number, highestSubnetIndex: number): ReadonlyArray<Finding> => {
  const places = subnetCount(pool)
  if (agents >= places) {
    return [problemFinding("settings", "fail", [
      `CONTROL_NETWORK_POOL ${pool} has ${places} subnets, and there are ${agents} agents`,
      "no agent can be created",
      "delete agents that are gone, or set a wider pool: those that are there keep their subnets"
    ])]
  }
  if (highestSubnetIndex >= places) {
    return [problemFinding("settings", "warn", [
      `CONTROL_NETWORK_POOL ${pool} has fewer subnets than were given out before`,
      "agents have addresses outside of it, which its routes may not cover",
      "set the pool that was used before"
    ])]
  }
  return agents < places * 0.9 ? [] : [problemFinding("settings", "warn", [
    `${agents} of the ${places} subnets of CONTROL_NETWORK_POOL ${pool} are taken`,
    "soon no agent can be created",
    "delete agents that are gone, or set a wider pool"
  ])]
}

const encrypt = "set CONTROL_TLS_CERTIFICATE and CONTROL_TLS_PRIVATE_KEY, or name the proxy that encrypts in " +
  "CONTROL_TRUSTED_PROXIES"
