/** The links between a visitor and a service, each judged from what is known about it. Pure. */

/** One link of the chain. `unknown`: it could not be examined, because an earlier link is broken. */
export interface Link {
  readonly link: "DNS" | "gateway" | "certificate" | "route" | "WireGuard" | "agent" | "target" | "HTTP"
  readonly state: "ok" | "fault" | "unknown"
  readonly detail: string
}

const ok = (link: Link["link"], detail: string): Link => ({ link, state: "ok", detail })
const fault = (link: Link["link"], detail: string): Link => ({ link, state: "fault", detail })
const unknown = (link: Link["link"], detail: string): Link => ({ link, state: "unknown", detail })

/** Where the name leads, and where the gateways are. */
export interface DnsFacts {
  readonly domain: string
  readonly addresses: ReadonlyArray<string>
  readonly problem: string | undefined
  readonly gateways: ReadonlyArray<{ readonly name: string; readonly publicIp: string | null }>
}

export const judgeDns = ({ addresses, domain, gateways, problem }: DnsFacts): Link => {
  const known = gateways.flatMap(({ publicIp }) => publicIp === null ? [] : [publicIp])
  const wanted = known.length === 0 ? "the address of a gateway" : known.join(" or ")
  if (addresses.length === 0) {
    return fault("DNS", `${domain} has no address (${problem ?? "no record"}); create an A or AAAA record to ${wanted}`)
  }
  const names = gateways.filter(({ publicIp }) => publicIp !== null && addresses.includes(publicIp)).map(({ name }) =>
    name
  )
  const list = addresses.join(", ")
  if (names.length > 0) return ok("DNS", `${domain} → ${list} (${names.join(", ")})`)
  if (known.length === 0) return ok("DNS", `${domain} → ${list} (no gateway has a public address to compare with)`)
  return fault("DNS", `${domain} → ${list}, which is no gateway; change the record to ${wanted}`)
}

export interface PortFacts {
  readonly address: string
  readonly port: number
  readonly problem: string | undefined
  readonly millis: number
}

export const judgeGateway = (ports: ReadonlyArray<PortFacts>): Link => {
  const broken = ports.find(({ problem }) => problem !== undefined)
  if (ports.length === 0) return unknown("gateway", "not examined: the name has no address")
  if (broken !== undefined) {
    return fault(
      "gateway",
      `${broken.address} port ${broken.port}: ${broken.problem}; is the gateway running, and is the port open in its firewall?`
    )
  }
  return ok(
    "gateway",
    ports.map(({ address, millis, port }) => `${address} port ${port} answers in ${millis} ms`).join(", ")
  )
}

export interface CertificateFacts {
  /** Whether Control has a certificate for the name. */
  readonly isStored: boolean
  /** What the gateway showed; undefined if there was no handshake. */
  readonly shown:
    | { readonly issuer: string; readonly expiresInDays: number; readonly problem: string | undefined }
    | undefined
  readonly problem: string | undefined
}

export const judgeCertificate = ({ isStored, problem, shown }: CertificateFacts): Link => {
  if (shown === undefined) {
    if (!isStored) return ok("certificate", "none is stored, so that visitors are served by http only")
    return problem === undefined
      ? unknown("certificate", "not examined: the gateway does not answer")
      : fault("certificate", `the TLS handshake fails: ${problem}`)
  }
  if (shown.problem !== undefined) return fault("certificate", `${shown.problem} (issued by ${shown.issuer})`)
  return ok("certificate", `issued by ${shown.issuer}, expires in ${shown.expiresInDays} days`)
}

export interface RouteFacts {
  readonly tunnel: {
    readonly enabled: boolean
    readonly revision: number
    readonly agent: string
    readonly target: string
  } | undefined
  readonly domain: string
  readonly gateways: ReadonlyArray<
    {
      readonly name: string
      readonly isOnline: boolean
      readonly appliedRevision: number | null
      readonly nack: string | undefined
    }
  >
}

export const judgeRoute = ({ domain, gateways, tunnel }: RouteFacts): Link => {
  if (tunnel === undefined) return fault("route", `there is no tunnel for ${domain}; create one with control expose`)
  if (!tunnel.enabled)
    return fault("route", `the tunnel is disabled; enable it with control tunnel update ${domain} --enabled`)
  const online = gateways.filter(({ isOnline }) => isOnline)
  if (online.length === 0) return fault("route", "no gateway is connected to Control; see control gateway list")
  const rejecting = online.find(({ nack }) => nack !== undefined)
  if (rejecting !== undefined) return fault("route", `${rejecting.name} rejects the network: ${rejecting.nack}`)
  const behind = online.find(({ appliedRevision }) => (appliedRevision ?? 0) < tunnel.revision)
  if (behind !== undefined) {
    return fault(
      "route",
      `${behind.name} has applied revision ${
        behind.appliedRevision ?? "none"
      }, and the tunnel has revision ${tunnel.revision}`
    )
  }
  return ok(
    "route",
    `${domain} → ${tunnel.agent} ${tunnel.target}, applied by ${online.map(({ name }) => name).join(", ")}`
  )
}

export interface WireguardFacts {
  readonly handshakes: ReadonlyArray<{
    readonly gateway: string
    readonly ageSeconds: number | undefined
    /** Whether the gateway reaches the agent's service, which proves the tunnel. Reports of handshakes are up to 15 s old. */
    readonly isServing: boolean
  }>
}

/** A session without a handshake for this time has ended (WireGuard, REJECT_AFTER_TIME). */
const maxHandshakeAgeSeconds = 180

export const judgeWireguard = ({ handshakes }: WireguardFacts): Link => {
  if (handshakes.length === 0) return unknown("WireGuard", "no gateway has reported its peers yet")
  const dead = handshakes.find(({ ageSeconds, isServing }) =>
    !isServing && (ageSeconds === undefined || ageSeconds > maxHandshakeAgeSeconds)
  )
  if (dead !== undefined) {
    const age = dead.ageSeconds === undefined ? "none yet" : `the last one was ${dead.ageSeconds} s ago`
    return fault(
      "WireGuard",
      `no handshake between ${dead.gateway} and the agent (${age}); is the gateway's UDP port open in its firewall?`
    )
  }
  const textOf = ({ ageSeconds, gateway }: WireguardFacts["handshakes"][number]) =>
    ageSeconds === undefined ? `${gateway} reaches the agent` : `${gateway}: handshake ${ageSeconds} s ago`
  return ok("WireGuard", handshakes.map(textOf).join(", "))
}

export interface AgentFacts {
  readonly name: string
  readonly isOnline: boolean
  readonly appliedRevision: number | null
  readonly revision: number
  readonly nack: string | undefined
}

export const judgeAgent = ({ appliedRevision, isOnline, nack, name, revision }: AgentFacts): Link => {
  if (!isOnline) return fault("agent", `${name} is offline; is control agent run running there?`)
  if (nack !== undefined) return fault("agent", `${name} rejects its tunnels: ${nack}`)
  if ((appliedRevision ?? 0) < revision)
    return fault("agent", `${name} has applied revision ${appliedRevision ?? "none"}, not ${revision}`)
  return ok("agent", `${name} is online and has applied revision ${appliedRevision}`)
}

export interface TargetFacts {
  readonly target: string
  /** Report of the agent; undefined if there is none. */
  readonly status: string | undefined
  readonly detail: string | undefined
}

export const judgeTarget = ({ detail, status, target }: TargetFacts): Link => {
  if (status === undefined) return unknown("target", `the agent has not reported ${target} yet`)
  return status === "active"
    ? ok("target", `${target} accepts connections`)
    : fault("target", `${target}: ${detail ?? status}`)
}

export interface HttpFacts {
  readonly url: string
  readonly status: number | undefined
  readonly problem: string | undefined
  readonly millis: number
}

export const judgeHttp = (facts: HttpFacts | undefined): Link => {
  if (facts === undefined) return unknown("HTTP", "not examined: an earlier link is broken")
  const { millis, problem, status, url } = facts
  if (status === undefined) return fault("HTTP", `${url}: ${problem ?? "no answer"}`)
  const text = `${url} answers ${status} in ${millis} ms`
  return status >= 500 ? fault("HTTP", text) : ok("HTTP", text)
}

/** One line for each link. */
export const linksText = (links: ReadonlyArray<Link>): string =>
  links.map(({ detail, link, state }) => `${marks[state]}  ${link.padEnd(12)} ${detail}\n`).join("")

const marks = { ok: "ok   ", fault: "FAULT", unknown: "?    " }
