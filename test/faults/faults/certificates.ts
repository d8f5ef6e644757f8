/** F31 and F32: gateways that send certificates which are not theirs to send, are none, or are too many. */
import { now, sleep } from "#bench/support/clock.ts"
import { underLoad } from "#faults/checkGuarantees.ts"
import { enter, type RawSocket } from "#faults/RawWebSocket.ts"
import type { Stage } from "#faults/TestCluster.ts"
import type { Fault } from "#faults/FaultRun.ts"
import { holdsWithin, mustHold, seconds } from "#faults/waitUntil.ts"
import { issueCertificate } from "#support/certificates.ts"

const day = 86_400_000

const stored = (stage: Stage): Promise<string> =>
  stage.postgres.query("select domain, md5(certificate) as md5 from certificates order by domain").then(JSON.stringify)

/** A gateway beside the crowd, with its key; `serves` limits it. */
const newGateway = async (stage: Stage, name: string, serves: object): Promise<{ id: string; apiKey: string }> => {
  const made = await stage.create("/api/gateways", { name, publicIp: "203.0.113.251", serves })
  const apiKey = String(made["apiKey"])
  stage.canaries.push({ name: `the key of ${name}`, text: apiKey })
  return { id: String(made["id"]), apiKey }
}

/** Gone again, so that the next fault finds the network as it was. */
const remove = async (stage: Stage, ...ids: ReadonlyArray<string>): Promise<void> => {
  for (const id of ids) await stage.node.operator.delete(`/api/gateways/${id}`)
}

const answersOf = (raw: RawSocket): ReadonlyArray<string> =>
  raw.texts.filter((text) => /^\{"type":"(?:error|certificate_accepted)"/u.test(text))

const foreign: Fault = {
  id: "F31",
  name: "Gateway claims a foreign domain, a wrong key, an expired or an older certificate",
  injected:
    "eight certificates that must not be stored, from a gateway that serves all and one that serves a single domain",
  expected: "each is answered with certificate_rejected, the table is as before, the sessions live on",
  nodes: 1,
  run: async (trial, stage) => {
    const [domain = "", certificate] = await storedPair(stage)
    const limited = await newGateway(stage, "limited", { domains: ["elsewhere.example.com"] })
    const open = { id: "spare", apiKey: stage.spareGatewayKey }
    const before = await stored(stage)
    stage.crowd.reset()
    const good = issueCertificate({ names: [domain], notAfter: new Date(Date.now() + 200 * day) })
    const other = issueCertificate({ names: [domain] })
    const old = issueCertificate({ names: [domain], notAfter: new Date(Date.now() + 10 * day) })
    const past = issueCertificate({
      names: [domain],
      notBefore: new Date(Date.now() - 9 * day),
      notAfter: new Date(Date.now() - day)
    })
    const claims = [
      ["a domain of nobody", open, {
        domain: "nobody.example.org",
        ...issueCertificate({ names: ["nobody.example.org"] })
      }],
      ["a wildcard above all", open, { domain: "*.com", ...issueCertificate({ names: ["*.com"] }) }],
      ["a domain that this gateway does not serve", limited, { domain, ...good }],
      ["another's private key", open, { domain, ...good, privateKey: other.privateKey }],
      ["a certificate for another name", open, { domain, ...issueCertificate({ names: ["other.example.com"] }) }],
      ["an expired certificate", open, { domain, ...past }],
      ["one that ends before the stored one", open, { domain, ...old }],
      ["no PEM at all", open, {
        domain,
        ...good,
        certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
      }]
    ] as const
    const sockets = {
      [open.id]: await enter(stage.node.wsPort, open.apiKey, true),
      [limited.id]: await enter(stage.node.wsPort, limited.apiKey, true)
    }
    for (const [what, gateway, data] of claims) {
      const raw = sockets[gateway.id]
      if (raw === undefined) continue
      const answered = answersOf(raw).length
      raw.send({ type: "certificate_obtained", data })
      await holdsWithin(5_000, () => answersOf(raw).length > answered || raw.closeCode !== undefined)
      const answer = answersOf(raw)[answered] ?? `nothing (${raw.closeCode ?? "open"})`
      trial.check(/certificate_rejected|invalid_message/u.test(answer), `${what}: ${answer.slice(0, 200)}`)
    }
    for (const raw of Object.values(sockets)) {
      trial.check(raw.closeCode === undefined, `a session was closed with ${raw.closeCode}`)
      raw.cut()
    }
    trial.check(await stored(stage) === before, "the certificates are not as before")
    trial.saw(`${claims.length} claims rejected, ${certificate === undefined ? 0 : 1} stored certificate untouched`)
    trial.check(stage.crowd.closes.length === 0, `others were closed: ${stage.crowd.closesByCode()}`)
    await remove(stage, limited.id)
    await underLoad(trial, stage, () => sleep(300))
    trial.notTried("an audit row for each: refusals are answered, and written nowhere")
  }
}

const storedPair = async (stage: Stage): Promise<ReadonlyArray<string | undefined>> => {
  const [row] = await stage.postgres.query("select domain, certificate from certificates limit 1")
  return [String(row?.["domain"]), row?.["certificate"] === undefined ? undefined : String(row["certificate"])]
}

const certificateFlood: Fault = {
  id: "F32",
  name: "Gateway floods certificates",
  injected:
    "a gateway sends 1,000 valid certificates for one domain as fast as it can, each one ending later; then one every 25 ms for 4 s",
  expected:
    "4429 for the flood; the log grows by no more than the message rate lets through (a burst of 200, then 50/s)",
  nodes: 1,
  run: async (trial, stage) => {
    const apiKey = stage.spareGatewayKey
    const [row] = await stage.postgres.query(
      "select domain from tunnels where domain like 'app-%' and domain not in (select domain from certificates) limit 1"
    )
    const domain = String(row?.["domain"])
    const make = (index: number) => ({
      type: "certificate_obtained",
      data: {
        domain,
        ...issueCertificate({ names: [domain], notAfter: new Date(Date.now() + 90 * day + index * 60_000) })
      }
    })
    const count = stage.options.clients < 100 ? 400 : 1_000
    const made = Array.from({ length: count }, (_, index) => make(index))
    await underLoad(trial, stage, async (ledger) => {
      const before = await stage.revision()
      const raw = await enter(stage.node.wsPort, apiKey, true)
      const began = now()
      for (const message of made) raw.send(message)
      await settled(stage)
      const took = now() - began
      const flooded = await stage.revision() - before
      const most = 200 + 50 * Math.ceil(took / 1_000)
      trial.saw(
        `${count} at once: ${flooded} changes in the log in ${seconds(took)}, ${raw.closeCode ?? "the session is open"}`
      )
      trial.check(flooded <= most, `${flooded} were stored of ${most} messages that may be read`)
      raw.cut()
      const steady = await enter(stage.node.wsPort, apiKey, true)
      const from = await stage.revision()
      for (let index = 0; index < 160; index += 1) {
        const message = make(count + index)
        made.push(message)
        steady.send(message)
        await sleep(25)
      }
      await settled(stage)
      const after = await stage.revision() - from
      trial.saw(`one every 25 ms: ${after} changes for 160 certificates, ${steady.closeCode ?? "still open"}`)
      steady.cut()
      const [last] = await stage.postgres.query("select certificate from certificates where domain = $1", [domain])
      for (const { data } of made) {
        if (data.certificate === last?.["certificate"]) stage.certificateKeys.set(domain, data.privateKey)
      }
      ledger.note("acked", await stage.revision() - before)
    }, { http: 0, sql: 0 })
    trial.check(stage.crowd.closes.length === 0, `others were closed: ${stage.crowd.closesByCode()}`)
    await stage.node.operator.delete(`/api/certificates/${domain}`)
    trial.notTried(
      "10 a day for a domain and gateway: there is no such limit; what is read of one connection bounds it, and compaction the log"
    )
  }
}

/** Until the counter has stood still for half a second. */
const settled = async (stage: Stage): Promise<void> => {
  let last = -1
  await mustHold("the log stands still", 30_000, async () => {
    const revision = await stage.revision()
    if (revision === last) return true
    last = revision
    await sleep(500)
    return false
  })
}

export const certificates: ReadonlyArray<Fault> = [foreign, certificateFlood]
