/** `control check`: walks the chain from a visitor to a service, and names the broken link. */
import { parseTime } from "#processes/clock.ts"
import { Clock, Console, Effect, Option, Result, Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { requestJson } from "#cli/apiClient.ts"
import { commandFailed } from "#cli/CommandFailed.ts"
import { findServer, type Server } from "#cli/findServer.ts"
import { output, print } from "#cli/print.ts"
import { replaceControlCharacters } from "#cli/valueText.ts"
import {
  judgeAgent,
  judgeCertificate,
  judgeDns,
  judgeGateway,
  judgeHttp,
  judgeRoute,
  judgeTarget,
  judgeWireguard,
  type Link,
  linksText
} from "./links.ts"
import { probeCertificate, probeDns, probeHttp, probePort } from "./probes.ts"

const port = (name: string, value: string, description: string) =>
  Flag.withDefault(
    Flag.String(name).pipe(Flag.withMetavar("PORT"), Flag.withDescription(description)),
    value
  )

export const checkCommand = Command.make("check", {
  domain: Argument.String("domain").pipe(Argument.withDescription("Public name, for example app.example.com")),
  httpPort: port("http-port", "80", "Port of the gateways for HTTP"),
  httpsPort: port("https-port", "443", "Port of the gateways for HTTPS"),
  output
}, ({ domain, httpPort, httpsPort, output }) =>
  Effect.gen(function*() {
    const server = yield* findServer
    const ports = { http: yield* portOf(httpPort), https: yield* portOf(httpsPort) }
    const links = yield* examine(server, domain.toLowerCase(), ports)
    if (output === "table") yield* Console.log(replaceControlCharacters(linksText(links)).trimEnd())
    else yield* print(output, links)
    const broken = links.find(({ state }) => state === "fault")
    if (broken !== undefined)
      return yield* commandFailed("broken", `${domain} is not served: the link ${broken.link} is broken`)
  })).pipe(
    Command.withDescription(
      "Check a public name link by link: DNS, gateway, certificate, route, WireGuard, agent, target, HTTP"
    ),
    Command.withExamples([{ command: "control check app.example.com" }])
  )

const portOf = (text: string) =>
  /^[1-9]\d{0,4}$/u.test(text) && Number(text) <= 65_535
    ? Effect.succeed(Number(text))
    : Effect.fail(commandFailed("usage", `${JSON.stringify(text)} is no port from 1 to 65535`))

const Nack = Schema.NullOr(Schema.Struct({ message: Schema.String }))
const Peer = Schema.Struct({ id: Schema.String, lastHandshakeAt: Schema.NullOr(Schema.String) })
const Client = Schema.Struct({
  id: Schema.String,
  name: Schema.String,
  status: Schema.String,
  appliedRevision: Schema.NullOr(Schema.Number),
  lastNack: Nack,
  publicIp: Schema.optionalKey(Schema.NullOr(Schema.String)),
  peers: Schema.optionalKey(Schema.Array(Peer))
})
type Client = typeof Client.Type
const Tunnel = Schema.Struct({
  agentId: Schema.String,
  target: Schema.String,
  enabled: Schema.Boolean,
  revision: Schema.Number,
  reported: Schema.NullOr(Schema.Struct({
    status: Schema.String,
    detail: Schema.optionalKey(Schema.NullOr(Schema.String))
  })),
  serving: Schema.optionalKey(Schema.Array(Schema.Struct({ gatewayId: Schema.String, status: Schema.String })))
})

/** Reads one resource. A missing one is undefined. */
const read = Effect.fnUntraced(function*<A>(server: Server, path: string, schema: Schema.Codec<A, unknown>) {
  const response = yield* Effect.result(requestJson(server, { method: "GET", path }))
  if (Result.isFailure(response)) {
    return response.failure.kind === "notFound" ? undefined : yield* response.failure
  }
  return yield* Effect.mapError(
    Schema.decodeUnknownEffect(schema)(response.success),
    () => commandFailed("failed", `the server at ${server.name} has another version; update control`)
  )
})

/** What Control knows about the name. */
const readFacts = Effect.fnUntraced(function*(server: Server, domain: string) {
  const tunnel = yield* read(server, `/api/tunnels/${encodeURIComponent(domain)}`, Tunnel)
  const list = yield* read(server, "/api/gateways?limit=1000", Schema.Struct({ items: Schema.Array(Client) }))
  const gateways = yield* Effect.forEach(
    list?.items ?? [],
    ({ id }) => read(server, `/api/gateways/${id}`, Client),
    { concurrency: 8 }
  ).pipe(Effect.map((all) => all.filter((gateway) => gateway !== undefined)))
  const agent = tunnel === undefined
    ? undefined
    : yield* read(server, `/api/agents/${encodeURIComponent(tunnel.agentId)}`, Client)
  return { tunnel, gateways, agent }
})

/** The visit of the check shows the programs what is broken, and their reports reach Control within this time. */
const reportDelay = "400 millis"

const examine = Effect.fnUntraced(function*(
  server: Server,
  domain: string,
  ports: { readonly http: number; readonly https: number }
) {
  const { gateways } = yield* readFacts(server, domain)
  const hasCertificate = (name: string) =>
    Effect.map(
      read(server, `/api/certificates/${encodeURIComponent(name)}`, Schema.Unknown),
      (certificate) => certificate !== undefined
    )
  const isStored = (yield* hasCertificate(domain)) || (yield* hasCertificate(wildcardOf(domain)))
  const publicLinks = yield* examinePublicSide(domain, gateways, isStored, ports)
  yield* Effect.sleep(reportDelay)
  const facts = yield* readFacts(server, domain)
  const wall = yield* Clock.currentTimeMillis
  return [...publicLinks.slice(0, 3), ...innerLinks(domain, facts, wall), ...publicLinks.slice(3)]
})

const wildcardOf = (domain: string): string => `*${domain.slice(Math.max(0, domain.indexOf(".")))}`

/** DNS, gateway, certificate and HTTP, as a visitor sees them. */
const examinePublicSide = Effect.fnUntraced(function*(
  domain: string,
  gateways: ReadonlyArray<Client>,
  isStored: boolean,
  ports: { readonly http: number; readonly https: number }
) {
  const clock = yield* Clock.Clock
  const now = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  const { addresses, problem } = yield* Effect.promise(() => probeDns(domain))
  const dns = judgeDns({
    domain,
    addresses,
    problem,
    gateways: gateways.map(({ name, publicIp }) => ({ name, publicIp: publicIp ?? null }))
  })
  const port = isStored ? ports.https : ports.http
  const answers = yield* Effect.promise(() => Promise.all(addresses.map((address) => probePort(address, port, now))))
  const gateway = judgeGateway(answers)
  const address = answers.find(({ problem }) => problem === undefined)?.address
  const wall = yield* Clock.currentTimeMillis
  const certificate = address === undefined || !isStored
    ? judgeCertificate({ isStored, shown: undefined, problem: undefined })
    : judgeCertificate({
      isStored,
      ...yield* Effect.promise(() => probeCertificate(address, port, domain, wall))
    })
  const isReachable = address !== undefined && certificate.state !== "fault"
  const http = isReachable
    ? yield* Effect.promise(() => probeHttp({ address, port, name: domain, isSecure: isStored }, now))
    : undefined
  return [dns, gateway, certificate, judgeHttp(http)]
})

/** Route, WireGuard, agent and target, as Control knows them from reports. */
function innerLinks(
  domain: string,
  { agent, gateways, tunnel }: Effect.Success<ReturnType<typeof readFacts>>,
  wall: number
): ReadonlyArray<Link> {
  const revision = tunnel?.revision ?? 0
  const online = gateways.filter(({ status }) => status === "online")
  const serving = new Set(
    tunnel?.serving?.filter(({ status }) => status === "serving").map(({ gatewayId }) => gatewayId)
  )
  const handshakes = online.flatMap(({ id: gatewayId, name, peers = [] }) =>
    peers.filter(({ id }) => id === agent?.id).map(({ lastHandshakeAt }) => ({
      gateway: name,
      isServing: serving.has(gatewayId),
      ageSeconds: lastHandshakeAt === null
        ? undefined
        : Math.max(0, Math.round((wall - parseTime(lastHandshakeAt)) / 1_000))
    }))
  )
  const reported = Option.fromNullishOr(tunnel?.reported)
  return [
    judgeRoute({
      domain,
      tunnel: tunnel && { ...tunnel, agent: agent?.name ?? tunnel.agentId },
      gateways: gateways.map(({ appliedRevision, lastNack, name, status }) => ({
        name,
        isOnline: status === "online",
        appliedRevision,
        nack: lastNack?.message
      }))
    }),
    judgeWireguard({ handshakes }),
    agent === undefined
      ? { link: "agent", state: "unknown", detail: "there is no tunnel, so that no agent is known" }
      : judgeAgent({
        name: agent.name,
        isOnline: agent.status === "online",
        appliedRevision: agent.appliedRevision,
        revision,
        nack: agent.lastNack?.message
      }),
    tunnel === undefined
      ? { link: "target", state: "unknown", detail: "there is no tunnel" }
      : judgeTarget({
        target: tunnel.target,
        status: Option.getOrUndefined(Option.map(reported, ({ status }) => status)),
        detail: Option.getOrUndefined(Option.flatMap(reported, ({ detail }) => Option.fromNullishOr(detail)))
      })
  ]
}
