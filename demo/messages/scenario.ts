/** The steps of the demo in order, with the messages that each client must receive. */
import { issueCertificate } from "#support/certificates.ts"
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import {
  type Answer,
  databasePassword,
  databaseSocket,
  DemoFailed,
  type Operator,
  type Server,
  within
} from "./serverProcess.ts"
import type { Account, ActionResult, ClientProcesses, Expected } from "./ClientProcesses.ts"

/** Facts that the check of the views needs. */
export interface ScenarioResult {
  readonly accounts: ReadonlyArray<Account>
  /** The clients that are connected at the end. */
  readonly connected: ReadonlyArray<Account>
  /** The private keys of the stored certificates, by domain. */
  readonly certificateKeys: ReadonlyMap<string, string>
  /** The names of all agents that each tunnel has belonged to, by domain. */
  readonly owners: ReadonlyMap<string, ReadonlySet<string>>
}

const gateways = (...messages: ReadonlyArray<string>): Expected => ({ "edge-1": messages, "edge-2": messages })

export const runScenario = Effect.fn("runScenario")(
  function*(server: Server, operator: Operator, clients: ClientProcesses) {
    const { act, start } = clients
    const certificateKeys = new Map<string, string>()
    const owners = new Map([
      ["app.example.com", new Set(["home", "office"])],
      ["shop.example.com", new Set(["home"])],
      ["wiki.example.com", new Set(["office"])]
    ])

    const register = (type: "agent" | "gateway", name: string, fields: object = {}) =>
      Effect.map(operator.post(`/api/${type}s`, { name, ...fields }), (answer): Account => ({
        name,
        type,
        id: answer.body.id,
        apiKey: answer.body.apiKey
      }))
    const accounts = yield* act(
      "The operator registers two agents and two gateways: POST /api/agents, POST /api/gateways",
      Effect.map(
        Effect.all([
          register("agent", "home"),
          register("agent", "office"),
          register("gateway", "edge-1", { publicIp: "203.0.113.1" }),
          register("gateway", "edge-2", { publicIp: "2001:db8::2" })
        ]),
        (value): ActionResult<Array<Account>> => ({ value, text: "registered" })
      )
    )
    const [home, office, edge1, edge2] = accounts
    if (home === undefined || office === undefined || edge1 === undefined || edge2 === undefined) {
      return yield* new DemoFailed({ reason: "expected four registered clients" })
    }
    const connectMessages = ["auth_success", "config"]
    yield* act(
      "All four clients start and connect. Times include the start of a process.",
      withoutText(Effect.forEach(accounts, start)),
      {
        home: connectMessages,
        office: connectMessages,
        ...gateways(...connectMessages)
      }
    )

    const create = (domain: string, agent: Account, target: string) =>
      withStatus(operator.post("/api/tunnels", { agentId: agent.id, domain, target }))
    const app = yield* act(
      "The operator creates a tunnel to home: POST /api/tunnels",
      create("app.example.com", home, "localhost:8080"),
      {
        home: ["tunnel_create"],
        ...gateways("tunnel_create")
      }
    )
    const appPath = `/api/tunnels/${app.body.id}`
    yield* act(
      "The operator changes the target of the tunnel: PATCH /api/tunnels/…",
      withStatus(operator.patch(appPath, { target: "https://localhost:8443", tls: "insecure" })),
      {
        home: ["tunnel_update"],
        ...gateways("tunnel_update")
      }
    )
    yield* act(
      "The operator moves the tunnel to office: PATCH /api/tunnels/…",
      withStatus(operator.patch(appPath, { agentId: office.id })),
      {
        home: ["tunnel_delete"],
        office: ["tunnel_create"],
        ...gateways("tunnel_update")
      }
    )
    const shop = yield* act(
      "The operator creates a second tunnel, to home",
      create("shop.example.com", home, "localhost:3000"),
      {
        home: ["tunnel_create"],
        ...gateways("tunnel_create")
      }
    )
    const shopPath = `/api/tunnels/${shop.body.id}`
    const wiki = yield* act(
      "The operator creates a third tunnel, to office",
      create("wiki.example.com", office, "localhost:4000"),
      {
        office: ["tunnel_create"],
        ...gateways("tunnel_create")
      }
    )
    const wikiPath = `/api/tunnels/${wiki.body.id}`
    const writer = yield* makeSqlWriter(server)
    yield* act(
      "Another program disables the second tunnel by SQL: update tunnels set enabled = false …",
      writer.disable(shop.body.id),
      {
        home: ["tunnel_update"],
        ...gateways("tunnel_update")
      }
    )

    const issue = (domain: string) => {
      const issued = issueCertificate({ names: [domain], commonName: domain })
      certificateKeys.set(domain, issued.privateKey)
      return issued
    }
    yield* act(
      "edge-1 obtains a certificate and sends it to Control: certificate_obtained",
      withoutText(Effect.suspend(() =>
        clients.send("edge-1", {
          type: "certificate_obtained",
          data: { domain: "app.example.com", ...issue("app.example.com") }
        })
      )),
      gateways("config")
    )
    yield* act(
      "The operator stores a second certificate: PUT /api/certificates/shop.example.com",
      withStatus(Effect.suspend(() => {
        const { certificate, privateKey } = issue("shop.example.com")
        return operator.put("/api/certificates/shop.example.com", { certificate, privateKey })
      })),
      gateways("config")
    )

    yield* act(
      "home reports that its tunnel is active: status",
      Effect.gen(function*() {
        yield* clients.send("home", {
          type: "status",
          data: { tunnels: [{ domain: "shop.example.com", status: "active" }] }
        })
        yield* pollUntil("the report", operator.get(shopPath), ({ body }) => body.reported?.status === "active")
        return { value: undefined, text: "the API shows reported.status \"active\"" }
      })
    )

    const homeBecomes = (status: string) => untilStatus(operator, "/api/agents", home, status)
    yield* act("home crashes: SIGKILL", Effect.andThen(clients.kill("home"), homeBecomes("offline")), {
      home: ["process ended"]
    })
    yield* act(
      "The operator changes the tunnel of home while home is offline",
      withStatus(operator.patch(shopPath, { target: "localhost:3001", enabled: true })),
      {
        ...gateways("tunnel_update")
      }
    )
    yield* act("home starts again and receives its complete view", Effect.andThen(start(home), homeBecomes("online")), {
      home: connectMessages
    })

    yield* act("edge-2 freezes", withoutText(clients.freeze("edge-2")))
    yield* act(
      "The operator changes a tunnel. The frozen gateway delays no other client.",
      withStatus(operator.patch(wikiPath, { target: "localhost:4001" })),
      { office: ["tunnel_update"], "edge-1": ["tunnel_update"] }
    )
    yield* act(
      "Control closes edge-2 after 3 s without a heartbeat",
      untilStatus(operator, "/api/gateways", edge2, "offline")
    )
    yield* act(
      "edge-2 continues, finds its connection closed and reconnects",
      withoutText(clients.thaw("edge-2")),
      { "edge-2": ["tunnel_update", "closed 4408", ...connectMessages] }
    )

    yield* act("The operator revokes the API key of office: DELETE /api/agents/…/keys/…", revoke(operator, office), {
      office: ["closed 4403"]
    })
    yield* act(
      "The operator deletes the first tunnel: DELETE /api/tunnels/…",
      withStatus(operator.delete(appPath)),
      gateways("tunnel_delete")
    )
    yield* act(
      "The operator deletes the third tunnel",
      withStatus(operator.delete(wikiPath)),
      gateways("tunnel_delete")
    )
    return { accounts, connected: [home, edge1, edge2], certificateKeys, owners } satisfies ScenarioResult
  }
)

/**
 * Stands for another program that changes rows by SQL without calling Control, for example psql:
 * `psql --host=… --username=control --command="update tunnels set enabled = false where …"`.
 */
const makeSqlWriter = Effect.fnUntraced(function*(server: Server) {
  const socket = yield* databaseSocket(server.dataDir)
  const password = yield* databasePassword(server.dataDir)
  const url = Redacted.make(`postgres://control:${password}@localhost/control?host=${encodeURIComponent(socket)}`)
  const sql = yield* Effect.map(
    Layer.build(PgClient.layer({ url, maxConnections: 1 })),
    Context.get(SqlClient.SqlClient)
  )
  // The first statement opens the connection, which is not part of the measurement.
  yield* sql`select 1`
  return {
    disable: (tunnelId: string) =>
      within(
        "the SQL update",
        sql`update tunnels set enabled = false where id = ${tunnelId} returning id`.pipe(
          Effect.map((rows) => ({ value: undefined, text: `UPDATE ${rows.length}` })),
          Effect.mapError(sqlFailed)
        )
      )
  }
}, Effect.mapError(sqlFailed))

const revoke = Effect.fnUntraced(function*(operator: Operator, { id }: Account) {
  const keys = yield* operator.get(`/api/agents/${id}/keys`)
  return yield* withStatus(operator.delete(`/api/agents/${id}/keys/${keys.body.items[0].id}`))
})

const untilStatus = (operator: Operator, path: string, { id, name }: Account, status: string) =>
  pollUntil(`${name} ${status}`, operator.get(`${path}/${id}`), ({ body }) => body.status === status).pipe(
    Effect.map(() => ({ value: undefined, text: `the API shows ${name} ${status}` }))
  )

/** Repeats the request every 20 ms until the response satisfies the condition. */
const pollUntil = (what: string, request: Effect.Effect<Answer, DemoFailed>, condition: (answer: Answer) => boolean) =>
  within(what, Effect.repeat(request, { until: condition, schedule: Schedule.spaced("20 millis") }))

const withStatus = (request: Effect.Effect<Answer, DemoFailed>): Effect.Effect<ActionResult<Answer>, DemoFailed> =>
  Effect.map(request, (value) => ({ value, text: `HTTP ${value.status}` }))

const withoutText = (action: Effect.Effect<unknown, DemoFailed>): Effect.Effect<ActionResult<void>, DemoFailed> =>
  Effect.map(action, () => ({ value: undefined, text: "" }))

function sqlFailed(error: Error): DemoFailed {
  return new DemoFailed({ reason: `SQL: ${error.message}` })
}
