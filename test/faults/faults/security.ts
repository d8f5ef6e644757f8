/** F34 and F35: timing of wrong keys, and secrets in output. */
import { Authenticator } from "#clients/Authenticator.ts"
import { hashApiKey, mintApiKey } from "#crypto/apiKeys.ts"
import { Network } from "#feed/Network.ts"
import { apply, empty } from "#network/NetworkState.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { RawWebSocket } from "#faults/RawWebSocket.ts"
import { findLeaks, pemSecret } from "#faults/findSecretsInOutput.ts"
import { TestCluster } from "#faults/TestCluster.ts"
import type { Fault, FaultRun } from "#faults/FaultRun.ts"
import { waitUntil } from "#faults/waitUntil.ts"
import { AgentId, Revision, Timeline } from "#schema/ids.ts"
import { api } from "#support/apiClient.ts"
import { issueCertificate } from "#support/certificates.ts"
import { Context, Effect, Layer, Redacted } from "effect"
import { randomBytes } from "node:crypto"

/** Welch's t statistic of two samples (B. L. Welch, 1947). */
const welch = (one: ReadonlyArray<number>, other: ReadonlyArray<number>): number => {
  const of = (sample: ReadonlyArray<number>) => {
    const mean = sample.reduce((sum, value) => sum + value, 0) / sample.length
    const variance = sample.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (sample.length - 1)
    return { mean, share: variance / sample.length }
  }
  const [a, b] = [of(one), of(other)]
  return (a.mean - b.mean) / Math.sqrt(a.share + b.share)
}

/** Number of wrong characters at the end of the nearly correct key. */
const tail = 4

/** Welch's t without the slowest 1 % of both samples, which measure the system rather than the code. */
const cropped = (one: Array<number>, other: Array<number>): number => {
  const limit = [...one, ...other].toSorted((a, b) => a - b)[Math.floor((one.length + other.length) * 0.99)] ?? Infinity
  return welch(one.filter((value) => value < limit), other.filter((value) => value < limit))
}

const timing: Fault = {
  id: "F34",
  name: "Timing of key lookup",
  injected:
    "100,000 wrong keys at the server's authenticator: half match a valid key except for the last four characters, half match only those",
  expected: "Welch's |t| below 4.5, without the slowest 1 %",
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
    run.check(accepted._tag === "Success", "the valid key was rejected")
    for (let index = -warmUp; index < count; index += 1) {
      const which = run.random.int(2)
      // Both kinds of keys are built the same way, and each attempt has an address without earlier failures.
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
      if (result._tag === "Success") run.check(false, "a wrong key was accepted")
      if (index >= 0) samples[which === 0 ? 0 : 1].push(took)
    }
    const t = cropped(...samples)
    run.observe(`t = ${t.toFixed(2)} over ${samples[0].length} and ${samples[1].length} answers`)
    run.check(Math.abs(t) < 4.5, `|t| = ${Math.abs(t).toFixed(2)}`)
  }
}

/** Last part of a random key that does not exist. */
export const randomKey = (): string =>
  `${randomBytes(9).toString("hex").slice(0, 12)}_${randomBytes(32).toString("base64url")}`

const leaks: Fault = {
  id: "F35",
  name: "Secrets in logs and errors",
  injected:
    "a node with trace logs: PostgreSQL rejects rows and quotes them, keys and tokens arrive wrong, truncated or misplaced, and the database disconnects",
  expected: "no key, token, private key or master key in any output, error or answer, in any encoding",
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
      // An operator who creates a client receives its new key. These requests were rejected, so no answer may contain a
      // secret.
      for (const leak of findLeaks(answered, cluster.secrets)) run.check(false, `an answer contains ${leak}`)
      const printed = cluster.outputs.reduce((sum, { text }) => sum + text.length, 0)
      run.observe(
        `${cluster.secrets.length} secrets, each in 9 encodings, in ${
          Math.round(printed / 1_024)
        } KiB of output and ${answers.length} answers`
      )
      run.notTested("the heap, because a process holds its keys in memory")
    } finally {
      await cluster.close()
    }
  }
}

/** Lets the database reject rows, and collects the answers. PostgreSQL quotes the row in its error message. */
const provoke = async (run: FaultRun, cluster: TestCluster): Promise<Array<string>> => {
  const answers: Array<string> = []
  const tables = ["agents", "gateways", "certificates", "api_keys"]
  for (const table of tables) {
    await cluster.postgres.query(
      `alter table ${table} add constraint faults_refuses check (created_at < '2000-01-01') not valid`
    )
  }
  await refusedWrites(cluster, answers)
  run.check(answers.some((answer) => answer.startsWith("5")), "the database rejected no write")
  for (const table of tables) await cluster.postgres.query(`alter table ${table} drop constraint faults_refuses`)
  for (const { text } of cluster.secrets.slice(0, 8)) {
    const raw = new RawWebSocket(cluster.node.wsPort)
    await waitUntil(5_000, () => raw.isOpen)
    // A truncated key, a key in the wrong place, a key of the wrong kind, and the correct key after an error.
    raw.send(`{"type":"auth","data":{"apiKey":"${text}`)
    raw.send({ type: "auth", data: { apiKey: { text } } })
    raw.send({ type: text, data: { apiKey: text } })
    raw.send({ type: "auth", data: { apiKey: `${text}x` } })
    await waitUntil(2_500, () => raw.closeCode !== undefined)
    // The answer to a faulty message may quote that message. The output must not.
    raw.cut()
    const wrong = api(`http://127.0.0.1:${cluster.node.apiPort}`, text)
    for (const path of ["/api/agents", "/api/doctor", "/api/nodes"]) record(answers, await wrong.get(path))
  }
  return answers
}

const refusedWrites = async (cluster: TestCluster, answers: Array<string>): Promise<void> => {
  const { operator } = cluster.node
  const [domain = ""] = cluster.certificateKeys.keys()
  const { certificate, expiresAt, privateKey } = issueCertificate({ names: [domain] })
  cluster.secrets.push(pemSecret("the private key of a certificate that was refused", privateKey))
  record(answers, await operator.put(`/api/certificates/${domain}`, { certificate, expiresAt, privateKey }))
  record(answers, await operator.put(`/api/certificates/${domain}`, { certificate, expiresAt: "never", privateKey }))
  record(answers, await operator.post("/api/agents", { name: "rejected" }))
  record(answers, await operator.post("/api/gateways", { name: "rejected" }))
  record(answers, await operator.post(`/api/agents/${cluster.agentIds[0]}/keys`, {}))
}

const record = (
  answers: Array<string>,
  { body, status }: { readonly status: number; readonly body: unknown }
): void => {
  answers.push(`${status} ${JSON.stringify(body)}`)
}

export const security: ReadonlyArray<Fault> = [timing, leaks]
