/** F34 and F35: the time that a wrong key takes, and secrets in what is printed. */
import { Authenticator } from "#clients/Authenticator.ts"
import { hashApiKey, mintApiKey } from "#crypto/apiKeys.ts"
import { Network } from "#feed/Network.ts"
import { apply, empty } from "#network/NetworkState.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { RawWebSocket } from "#faults/RawWebSocket.ts"
import { findLeaks, pemSecret } from "#faults/secretScan.ts"
import { TestCluster } from "#faults/TestCluster.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { waitUntil } from "#faults/waitUntil.ts"
import { AgentId, Revision, Timeline } from "#schema/ids.ts"
import { api } from "#support/api.ts"
import { issueCertificate } from "#support/certificates.ts"
import { Context, Effect, Layer, Redacted } from "effect"
import { randomBytes } from "node:crypto"

/** Welch's t of the two samples (B. L. Welch, 1947), and how large each is. */
const welch = (one: ReadonlyArray<number>, other: ReadonlyArray<number>): number => {
  const of = (sample: ReadonlyArray<number>) => {
    const mean = sample.reduce((sum, value) => sum + value, 0) / sample.length
    const variance = sample.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (sample.length - 1)
    return { mean, share: variance / sample.length }
  }
  const [a, b] = [of(one), of(other)]
  return (a.mean - b.mean) / Math.sqrt(a.share + b.share)
}

/** How many of its last characters the near key has wrong. */
const tail = 4

/** Without the slowest hundredth of both: what the system did meanwhile is no answer's time. */
const cropped = (one: Array<number>, other: Array<number>): number => {
  const limit = [...one, ...other].toSorted((a, b) => a - b)[Math.floor((one.length + other.length) * 0.99)] ?? Infinity
  return welch(one.filter((value) => value < limit), other.filter((value) => value < limit))
}

const timing: Fault = {
  id: "F34",
  name: "Timing on key lookup",
  injected:
    "100,000 wrong keys at the server's own authenticator, in this process: half are a live key but for its last four characters, half share only those",
  expected: "Welch's |t| below 4.5, without the slowest hundredth",
  nodes: 0,
  execute: async (run) => {
    const { apiKey, keyId } = mintApiKey("agent")
    const right = Redacted.value(apiKey)
    const key = {
      id: keyId,
      hash: hashApiKey(right),
      owner: { type: "agent" as const, id: AgentId.make(crypto.randomUUID()) }
    }
    const state = apply(empty(Timeline.make("t"), Revision.make(0)), {
      _tag: "KeyPut",
      revision: Revision.make(1),
      key
    })
    const network = Layer.succeed(
      Network,
      {
        state: Effect.succeed(state),
        catchUp: Effect.void
      } as unknown as Network["Service"]
    )
    const count = run.fleetSize < 100 ? 10_000 : 100_000
    const authenticator = Context.get(
      await Effect.runPromise(Effect.scoped(Layer.build(Authenticator.layer.pipe(Layer.provide(network))))),
      Authenticator
    )
    const samples: readonly [Array<number>, Array<number>] = [[], []]
    const warmUp = 2_000
    const accepted = await Effect.runPromise(Effect.result(authenticator.authenticate(right, "agent", "10.0.0.1")))
    run.check(accepted._tag === "Success", "the right key is refused")
    for (let index = -warmUp; index < count; index += 1) {
      const which = run.random.int(2)
      // Both are made in the same way, and come from an address that has never failed before.
      const random = `ctl_agt_${randomKey()}`
      const text = which === 0
        ? right.slice(0, -tail) + random.slice(-tail)
        : random.slice(0, -tail) + right.slice(-tail)
      const wrong = Buffer.from(text, "latin1").toString("latin1")
      const at = index + warmUp
      const address = `${11 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}.1`
      const began = performance.now()
      const result = await Effect.runPromise(Effect.result(authenticator.authenticate(wrong, "agent", address)))
      const took = performance.now() - began
      if (result._tag === "Success") run.check(false, "a wrong key was let in")
      if (index >= 0) samples[which === 0 ? 0 : 1].push(took)
    }
    const t = cropped(...samples)
    run.observe(`t = ${t.toFixed(2)} over ${samples[0].length} and ${samples[1].length} answers`)
    run.check(Math.abs(t) < 4.5, `|t| = ${Math.abs(t).toFixed(2)}`)
  }
}

/** The end of a key that nobody has. */
export const randomKey = (): string =>
  `${randomBytes(9).toString("hex").slice(0, 12)}_${randomBytes(32).toString("base64url")}`

const leaks: Fault = {
  id: "F35",
  name: "Secrets in logs, errors, heap of errors",
  injected:
    "a node that logs everything: the database refuses rows and answers with them, keys and tokens come wrong, cut short and in the wrong places, and the database goes away in the middle",
  expected: "no key, token, private key or master key in any output, error or answer, in no encoding",
  nodes: 0,
  execute: async (run) => {
    const clients = 20
    const cluster = await TestCluster.open({ clients, nodes: 1, seed: run.seed, env: { CONTROL_LOG_LEVEL: "trace" } })
    try {
      const answers = await provoke(run, cluster)
      await withWriters(run, cluster, async () => {
        cluster.databaseProxy.cut()
        cluster.databaseProxy.isRefusing = true
        await refusedWrites(cluster, answers)
        cluster.databaseProxy.heal()
      })
      const answered = answers.join("\n")
      // Its own key is what an operator gets who makes a client: these were refused.
      for (const leak of findLeaks(answered, cluster.secrets)) run.check(false, `an answer had ${leak}`)
      const printed = cluster.outputs.reduce((sum, { text }) => sum + text.length, 0)
      run.observe(
        `${cluster.secrets.length} secrets, each in 6 encodings, in ${
          Math.round(printed / 1_024)
        } KiB of output and ${answers.length} answers`
      )
      run.notTested("the heap itself: a process that holds keys in use has them in its memory")
    } finally {
      await cluster.close()
    }
  }
}

/** The database refuses what is written, and says so with the row in its message. */
const provoke = async (run: FaultRun, cluster: TestCluster): Promise<Array<string>> => {
  const answers: Array<string> = []
  const tables = ["agents", "gateways", "certificates", "api_keys"]
  for (const table of tables) {
    await cluster.postgres.query(
      `alter table ${table} add constraint faults_refuses check (created_at < '2000-01-01') not valid`
    )
  }
  await refusedWrites(cluster, answers)
  run.check(answers.some((answer) => answer.startsWith("5")), "the database has refused nothing")
  for (const table of tables) await cluster.postgres.query(`alter table ${table} drop constraint faults_refuses`)
  for (const { text } of cluster.secrets.slice(0, 8)) {
    const raw = new RawWebSocket(cluster.node.wsPort)
    await waitUntil(5_000, () => raw.isOpen)
    // A key cut short, in the wrong place, of the wrong kind, and then the right one after a fault.
    raw.send(`{"type":"auth","data":{"apiKey":"${text}`)
    raw.send({ type: "auth", data: { apiKey: { text } } })
    raw.send({ type: text, data: { apiKey: text } })
    raw.send({ type: "auth", data: { apiKey: `${text}x` } })
    await waitUntil(2_500, () => raw.closeCode !== undefined)
    // What a client is told of its own faulty message may quote it: the output may not.
    raw.cut()
    const wrong = api(`http://127.0.0.1:${cluster.node.apiPort}`, text)
    for (const path of ["/api/agents", "/api/doctor", "/api/nodes"]) note(answers, await wrong.get(path))
  }
  return answers
}

const refusedWrites = async (cluster: TestCluster, answers: Array<string>): Promise<void> => {
  const { operator } = cluster.node
  const [domain = ""] = cluster.certificateKeys.keys()
  const { certificate, expiresAt, privateKey } = issueCertificate({ names: [domain] })
  cluster.secrets.push(pemSecret("the private key of a certificate that was refused", privateKey))
  note(answers, await operator.put(`/api/certificates/${domain}`, { certificate, expiresAt, privateKey }))
  note(answers, await operator.put(`/api/certificates/${domain}`, { certificate, expiresAt: "never", privateKey }))
  note(answers, await operator.post("/api/agents", { name: "rejected" }))
  note(answers, await operator.post("/api/gateways", { name: "rejected" }))
  note(answers, await operator.post(`/api/agents/${cluster.agentIds[0]}/keys`, {}))
}

const note = (answers: Array<string>, { body, status }: { readonly status: number; readonly body: unknown }): void => {
  answers.push(`${status} ${JSON.stringify(body)}`)
}

export const security: ReadonlyArray<Fault> = [timing, leaks]
