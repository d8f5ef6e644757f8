/** What the demo does, in the order in which it does it, and who must hear of each step. */
import { issueCertificate } from "#support/certificates.ts"
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { type Answer, databaseSocket, DemoFailed, type Operator, type Server, within } from "./server.ts"
import type { Account, Done, Expected, Stage } from "./ClientProcesses.ts"

/** What only the story knows, and the judge needs. */
export interface Told {
  readonly accounts: ReadonlyArray<Account>
  /** Who is connected when the story ends. */
  readonly survivors: ReadonlyArray<Account>
  /** The private keys that were stored, by domain. */
  readonly certificateKeys: ReadonlyMap<string, string>
  /** The names of the agents that each tunnel has ever led to, by the tunnel's domain. */
  readonly owners: ReadonlyMap<string, ReadonlySet<string>>
}

const gateways = (...whats: ReadonlyArray<string>): Expected => ({ "edge-1": whats, "edge-2": whats })

export const tell = Effect.fn("tell")(function*(server: Server, operator: Operator, stage: Stage) {
  const { act, enter } = stage
  const certificateKeys = new Map<string, string>()
  const owners = new Map([
    ["app.example.com", new Set(["home", "office"])],
    ["shop.example.com", new Set(["home"])],
    ["wiki.example.com", new Set(["office"])]
  ])

  const register = (type: "agent" | "gateway", name: string, more: object = {}) =>
    Effect.map(operator.post(`/api/${type}s`, { name, ...more }), (answer): Account => ({
      name,
      type,
      id: answer.body.id,
      apiKey: answer.body.apiKey
    }))
  const accounts = yield* act(
    "Register two agents and two gateways: POST /api/agents, /api/gateways",
    Effect.map(
      Effect.all([
        register("agent", "home"),
        register("agent", "office"),
        register("gateway", "edge-1", { publicIp: "203.0.113.1" }),
        register("gateway", "edge-2", { publicIp: "2001:db8::2" })
      ]),
      (value): Done<Array<Account>> => ({ value, said: "registered" })
    )
  )
  const [home, office, edge1, edge2] = accounts
  if (home === undefined || office === undefined || edge1 === undefined || edge2 === undefined) {
    return yield* new DemoFailed({ reason: "four clients were expected" })
  }
  const joined = ["auth_success", "config"]
  yield* act(
    "Connect each of them, as a process of its own (its start is included)",
    silently(Effect.forEach(accounts, enter)),
    {
      home: joined,
      office: joined,
      ...gateways(...joined)
    }
  )

  const create = (domain: string, agent: Account, target: string) =>
    said(operator.post("/api/tunnels", { agentId: agent.id, domain, target }))
  const app = yield* act(
    "Create a tunnel to home: POST /api/tunnels",
    create("app.example.com", home, "localhost:8080"),
    {
      home: ["tunnel_create"],
      ...gateways("tunnel_create")
    }
  )
  const appPath = `/api/tunnels/${app.body.id}`
  yield* act(
    "Change its target: PATCH /api/tunnels/…",
    said(operator.patch(appPath, { target: "https://localhost:8443" })),
    {
      home: ["tunnel_update"],
      ...gateways("tunnel_update")
    }
  )
  yield* act("Move it to office: PATCH /api/tunnels/…", said(operator.patch(appPath, { agentId: office.id })), {
    home: ["tunnel_delete"],
    office: ["tunnel_create"],
    ...gateways("tunnel_update")
  })
  const shop = yield* act("Create a second tunnel to home", create("shop.example.com", home, "localhost:3000"), {
    home: ["tunnel_create"],
    ...gateways("tunnel_create")
  })
  const shopPath = `/api/tunnels/${shop.body.id}`
  const wiki = yield* act("Create a third, to office", create("wiki.example.com", office, "localhost:4000"), {
    office: ["tunnel_create"],
    ...gateways("tunnel_create")
  })
  const wikiPath = `/api/tunnels/${wiki.body.id}`
  const writer = yield* secondWriter(server)
  yield* act(
    "Disable the second by SQL, past Control: update tunnels set enabled = false …",
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
    "edge-1 has obtained a certificate, and sends certificate_obtained",
    silently(Effect.suspend(() =>
      stage.send("edge-1", {
        type: "certificate_obtained",
        data: { domain: "app.example.com", ...issue("app.example.com") }
      })
    )),
    gateways("config")
  )
  yield* act(
    "Store another: PUT /api/certificates/shop.example.com",
    said(Effect.suspend(() => {
      const { certificate, privateKey } = issue("shop.example.com")
      return operator.put("/api/certificates/shop.example.com", { certificate, privateKey })
    })),
    gateways("config")
  )

  yield* act(
    "home reports how its tunnel does, and sends status",
    Effect.gen(function*() {
      yield* stage.send("home", {
        type: "status",
        data: { tunnels: [{ domain: "shop.example.com", status: "active" }] }
      })
      yield* until("the report", operator.get(shopPath), ({ body }) => body.reported?.status === "active")
      return { value: undefined, said: "the API shows reported.status \"active\"" }
    })
  )

  const homeIs = (status: string) => shows(operator, "/api/agents", home, status)
  yield* act("Kill home's process: SIGKILL", Effect.andThen(stage.signal("home", "SIGKILL"), homeIs("offline")), {
    home: ["process ended"]
  })
  yield* act(
    "Change its tunnel while it is away",
    said(operator.patch(shopPath, { target: "localhost:3001", enabled: true })),
    {
      ...gateways("tunnel_update")
    }
  )
  yield* act("Start home again: it gets its whole view", Effect.andThen(enter(home), homeIs("online")), {
    home: joined
  })

  yield* act("Freeze edge-2's process: SIGSTOP", silently(stage.signal("edge-2", "SIGSTOP")))
  yield* act(
    "Change a tunnel meanwhile: a client that does not read holds up nobody",
    said(operator.patch(wikiPath, { target: "localhost:4001" })),
    { office: ["tunnel_update"], "edge-1": ["tunnel_update"] }
  )
  yield* act(
    "Wait until edge-2 was silent for the heartbeat timeout, here of 3 seconds",
    shows(operator, "/api/gateways", edge2, "offline")
  )
  yield* act(
    "Let edge-2 go on: it finds itself closed, and connects again by itself",
    silently(stage.signal("edge-2", "SIGCONT")),
    { "edge-2": ["tunnel_update", "closed 4408", ...joined] }
  )

  yield* act("Revoke office's key: DELETE /api/agents/…/keys/…", revoke(operator, office), { office: ["closed 4403"] })
  yield* act(
    "Delete the first tunnel: DELETE /api/tunnels/…",
    said(operator.delete(appPath)),
    gateways("tunnel_delete")
  )
  yield* act("Delete the third", said(operator.delete(wikiPath)), gateways("tunnel_delete"))
  return { accounts, survivors: [home, edge1, edge2], certificateKeys, owners } satisfies Told
})

/**
 * Another application, which changes the row and tells nobody. It stands for psql as well:
 * `psql --host=… --username=control --command="update tunnels set enabled = false where …"`.
 */
const secondWriter = Effect.fnUntraced(function*(server: Server) {
  const socket = yield* databaseSocket(server.dataDir)
  const url = Redacted.make(`postgres://control@localhost/control?host=${encodeURIComponent(socket)}`)
  const sql = yield* Effect.map(
    Layer.build(PgClient.layer({ url, maxConnections: 1 })),
    Context.get(SqlClient.SqlClient)
  )
  // The connection is made by the first statement, and is no part of what is measured.
  yield* sql`select 1`
  return {
    disable: (tunnelId: string) =>
      within(
        "the SQL update",
        sql`update tunnels set enabled = false where id = ${tunnelId} returning id`.pipe(
          Effect.map((rows) => ({ value: undefined, said: `UPDATE ${rows.length}` })),
          Effect.mapError(sqlFailed)
        )
      )
  }
}, Effect.mapError(sqlFailed))

const revoke = Effect.fnUntraced(function*(operator: Operator, { id }: Account) {
  const keys = yield* operator.get(`/api/agents/${id}/keys`)
  return yield* said(operator.delete(`/api/agents/${id}/keys/${keys.body.items[0].id}`))
})

const shows = (operator: Operator, path: string, { id, name }: Account, status: string) =>
  until(`${name} ${status}`, operator.get(`${path}/${id}`), ({ body }) => body.status === status).pipe(
    Effect.map(() => ({ value: undefined, said: `the API shows ${name} ${status}` }))
  )

/** Asks again until the answer is as awaited. */
const until = (what: string, asking: Effect.Effect<Answer, DemoFailed>, holds: (answer: Answer) => boolean) =>
  within(what, Effect.repeat(asking, { until: holds, schedule: Schedule.spaced("20 millis") }))

const said = (asking: Effect.Effect<Answer, DemoFailed>): Effect.Effect<Done<Answer>, DemoFailed> =>
  Effect.map(asking, (value) => ({ value, said: `answered ${value.status}` }))

const silently = (doing: Effect.Effect<unknown, DemoFailed>): Effect.Effect<Done<void>, DemoFailed> =>
  Effect.map(doing, () => ({ value: undefined, said: "" }))

function sqlFailed(error: Error): DemoFailed {
  return new DemoFailed({ reason: `SQL: ${error.message}` })
}
