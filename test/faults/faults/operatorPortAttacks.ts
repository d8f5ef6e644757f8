/** F33 and F36: SQL injection, and attacks on the operators' port. */
import { now } from "#bench/support/timing.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { openAuthenticated, RawWebSocket } from "#faults/RawWebSocket.ts"
import type { TestCluster } from "#faults/TestCluster.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { waitUntil } from "#faults/waitUntil.ts"
import { api } from "#support/apiClient.ts"
import { sendRequest } from "#support/rawHttp.ts"
import { Effect } from "effect"
import { randomKey } from "./security.ts"
import { WebSocket } from "ws"

const injections = [
  "' or '1'='1",
  "'; drop table agents; --",
  "\"; drop table tunnels; --",
  "' union select wireguard_private_key from agents --",
  "1; select pg_sleep(5)",
  "'||pg_sleep(5)||'",
  "$1",
  "$$; delete from api_keys; $$",
  "\\'; truncate changes; --",
  "%' or name like '%",
  "') returning (select string_agg(key_hash, ',') from api_keys) --",
  "admin'/*",
  "x' and 1=cast(version() as int) --",
  "{\"$ne\":null}"
]

/** Schema, functions and row counts as one text. */
const describeDatabase = async ({ postgres }: TestCluster): Promise<string> => {
  const columns = await postgres.query(
    "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public' order by 1, 2"
  )
  const counts = await Promise.all(
    [...new Set(columns.map((row) => String(row["table_name"])))]
      // Presence and audit tables grow by design.
      .filter((table) => ["agents", "gateways", "tunnels", "certificates", "api_keys"].includes(table))
      .map(async (table) => `${table} ${(await postgres.query(`select count(*)::int as n from "${table}"`))[0]?.["n"]}`)
  )
  const routines = await postgres.query(
    "select proname, md5(prosrc) from pg_proc where pronamespace = 'public'::regnamespace order by 1, 2"
  )
  return JSON.stringify([columns, counts, routines])
}

const sqlInjection: Fault = {
  id: "F33",
  name: "SQL injection",
  injected:
    `${injections.length} texts in every field, path, query and header of the API, and in every text of the messages`,
  expected: "no 5xx; every answer within 3 s; schema and row counts unchanged",
  nodes: 1,
  execute: async (run, cluster) => {
    const before = await describeDatabase(cluster)
    const { operator } = cluster.node
    const [agentId = ""] = cluster.agentIds
    const answers = new Map<number, number>()
    let slowest = 0
    const made: Array<string> = []
    for (const text of injections) {
      const inPath = encodeURIComponent(text)
      for (
        const [method, path, body, headers] of [
          ["POST", "/api/agents", { name: text }],
          ["POST", "/api/gateways", { name: text, publicIp: text }],
          ["POST", "/api/gateways", { name: text, serves: { domains: [text], agents: [text] } }],
          ["POST", "/api/tunnels", { agentId, domain: text, target: "localhost:1" }],
          ["POST", "/api/tunnels", { agentId, domain: "injected.example.com", target: text }],
          ["POST", "/api/tunnels", { agentId: text, domain: "injected.example.com", target: "localhost:1" }],
          ["GET", `/api/agents/${inPath}`],
          ["PATCH", `/api/agents/${inPath}`, { name: "x" }],
          ["DELETE", `/api/tunnels/${inPath}`],
          ["DELETE", `/api/agents/${agentId}/keys/${inPath}`],
          ["GET", `/api/certificates/${inPath}`],
          ["PUT", `/api/certificates/${inPath}`, { certificate: text, privateKey: text, expiresAt: text }],
          ["GET", `/api/agents?cursor=${inPath}`],
          ["GET", `/api/tunnels?limit=${inPath}&agentId=${inPath}`],
          ["GET", `/api/audit?entityType=${inPath}&entityId=${inPath}&cursor=${inPath}`],
          ["GET", "/api/agents", undefined, { "authorization": `Bearer ${text}` }],
          ["GET", "/api/agents", undefined, { "x-forwarded-for": text, "user-agent": text, "x-request-id": text }],
          ["POST", "/api/agents", { name: "keyed" }, { "idempotency-key": text }]
        ] as const
      ) {
        const began = now()
        const response = await fetch(`http://127.0.0.1:${cluster.node.apiPort}${path}`, {
          method,
          headers: { "authorization": `Bearer ${cluster.node.token}`, "content-type": "application/json", ...headers },
          ...(body === undefined ? {} : { body: JSON.stringify(body) })
        })
        const answer = await response.text()
        slowest = Math.max(slowest, now() - began)
        answers.set(response.status, (answers.get(response.status) ?? 0) + 1)
        run.check(response.status < 500, `${method} ${path}: ${response.status} ${answer.slice(0, 200)}`)
        const kind = /^\/api\/(?:agents|gateways|tunnels)$/u.exec(path)?.[0]
        if (response.status === 201 && kind !== undefined) made.push(`${kind}/${JSON.parse(answer).id}`)
      }
      await sendInMessages(cluster, text)
    }
    // Some texts are valid names. Deletes the resources that were created with them.
    for (const path of made) await operator.delete(path)
    run.check(await describeDatabase(cluster) === before, "the schema or the row counts changed")
    run.check(slowest < 3_000, `an answer took ${Math.round(slowest)} ms`)
    run.observe(
      `answers: ${[...answers].map(([status, count]) => `${status} ×${count}`).join(", ")}; the slowest ${
        Math.round(slowest)
      } ms; ` +
        `${made.length} texts were valid names, and were deleted again`
    )
    await withWriters(run, cluster, async () => {})
    noClose(run, cluster)
  }
}

const sendInMessages = async (cluster: TestCluster, text: string): Promise<void> => {
  const stranger = new RawWebSocket(cluster.node.wsPort)
  await waitUntil(5_000, () => stranger.isOpen)
  stranger.send({ type: "auth", data: { apiKey: text, publicIp: text, resume: { timeline: text, revision: 1 } } })
  const raw = await openAuthenticated(cluster.node.wsPort, cluster.spareAgentKey, true)
  raw.send({ type: "status", data: { tunnels: [{ domain: text, status: text, error: text }] } })
  raw.send({ type: "nack", data: { revision: 1, code: text, message: text, reason: text } })
  raw.send({ type: text, data: { [text]: text } })
  raw.send({
    type: "certificate_obtained",
    data: { domain: text, certificate: text, privateKey: text, expiresAt: text }
  })
  raw.send({ type: "no_such_type", data: {} })
  await waitUntil(5_000, () => raw.texts.some((each) => each.includes("no_such_type")))
  raw.cut()
  stranger.cut()
}

const noClose = (run: FaultRun, { fleet }: TestCluster): void =>
  run.check(fleet.closes.length === 0, `other clients were closed: ${fleet.closesByCode()}`)

const operatorsPort: Fault = {
  id: "F36",
  name: "Attacks on the operators' port",
  injected:
    "500 wrong tokens; foreign Origin, Host and form; two Hosts, Content-Length with Transfer-Encoding, and more ambiguous requests; X-Forwarded-For from an untrusted peer",
  expected: "401, 403, 421, 415 or 400; 400 for ambiguous requests; nothing created; the forged address ignored",
  nodes: 1,
  execute: async (run, cluster) => {
    const before = await describeDatabase(cluster)
    const port = cluster.node.apiPort
    const began = now()
    const statuses = new Set<number>()
    for (let round = 0; round < 10; round += 1) {
      const tries = Array.from(
        { length: 50 },
        () => api(`http://127.0.0.1:${port}`, `ctl_adm_${randomKey()}`).post("/api/agents", { name: "forced" })
      )
      for (const { status } of await Promise.all(tries)) statuses.add(status)
    }
    run.observe(
      `500 wrong tokens: ${[...statuses].join(", ")} at ${Math.round(500 / (now() - began) * 1_000)} a second`
    )
    run.check(
      [...statuses].every((status) => status === 401 || status === 429),
      `wrong tokens: ${[...statuses].join()}`
    )
    const body = "{\"name\":\"forged\"}"
    const authorized = `Authorization: Bearer ${cluster.node.token}`
    const json = "Content-Type: application/json"
    const host = `Host: 127.0.0.1:${port}`
    const length = `Content-Length: ${body.length}`
    const requests: ReadonlyArray<readonly [string, ReadonlyArray<number>, ReadonlyArray<string>]> = [
      ["a foreign Origin", [403], [host, authorized, json, length, "Origin: https://evil.example"]],
      ["the Origin null", [403], [host, authorized, json, length, "Origin: null"]],
      ["a foreign Host", [421], ["Host: evil.example", authorized, json, length]],
      ["a form", [400, 415, 422], [host, authorized, "Content-Type: application/x-www-form-urlencoded", length]],
      ["no token but a cookie", [401], [host, json, length, `Cookie: token=${cluster.node.token}`]],
      ["two Hosts", [400], [host, "Host: evil.example", authorized, json, length]],
      ["Content-Length and Transfer-Encoding", [400], [host, authorized, json, length, "Transfer-Encoding: chunked"]],
      ["two Content-Lengths", [400], [host, authorized, json, length, "Content-Length: 5"]],
      ["an unknown Transfer-Encoding", [400, 501], [host, authorized, json, "Transfer-Encoding: gzip, chunked"]],
      ["a space before the colon", [400], [host, authorized, json, `Content-Length : ${body.length}`]]
    ]
    for (const [what, wanted, headers] of requests) {
      const lines = ["POST /api/agents HTTP/1.1", ...headers, "Connection: close", "", body]
      const { status } = await Effect.runPromise(sendRequest(port, ...lines))
      run.check(wanted.includes(status), `${what}: ${status}`)
    }
    run.observe(`${requests.length} forged and ambiguous requests rejected`)
    run.check(await describeDatabase(cluster) === before, "a request created something")
    await forgedAddress(run, cluster)
    await withWriters(run, cluster, async () => {})
    noClose(run, cluster)
    if (!statuses.has(429))
      run.notTested(
        "429 for wrong tokens, because no limit slowed them; tokens have 256 random bits"
      )
  }
}

/** Checks that X-Forwarded-For from an untrusted peer does not change the client's address. */
const forgedAddress = async (run: FaultRun, cluster: TestCluster): Promise<void> => {
  const ws = new WebSocket(`ws://127.0.0.1:${cluster.node.wsPort}/`, { headers: { "X-Forwarded-For": "198.51.100.7" } })
  ws.on("open", () => ws.send(JSON.stringify({ type: "auth", data: { apiKey: cluster.spareAgentKey } })))
  ws.on("error", () => {})
  let isIn = false
  ws.on("message", () => isIn = true)
  await waitUntil(5_000, () => isIn)
  const { body } = await cluster.node.operator.get("/api/clients?limit=500")
  const text = JSON.stringify(body)
  run.check(isIn && text.includes("127.0.0.1"), "the client is not listed with its address")
  run.check(!text.includes("198.51.100.7"), "the forged address was accepted")
  ws.terminate()
}

export const operators: ReadonlyArray<Fault> = [sqlInjection, operatorsPort]
