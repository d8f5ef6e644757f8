/** F31 and F32: gateways that send certificates that are foreign, invalid or outdated, or too many certificates. */
import { now, sleep } from "#bench/support/timing.ts"
import { withWriters } from "#faults/checkGuarantees.ts"
import { openAuthenticated, type RawWebSocket } from "#faults/RawWebSocket.ts"
import type { TestCluster } from "#faults/TestCluster.ts"
import type { Fault } from "#faults/FaultRun.ts"
import { formatSeconds, requireWithin, waitUntil } from "#faults/waitUntil.ts"
import { issueCertificate } from "#support/certificates.ts"

const day = 86_400_000

const stored = (cluster: TestCluster): Promise<string> =>
  cluster.postgres.query("select domain, md5(certificate) as md5 from certificates order by domain").then(
    JSON.stringify
  )

/** Creates a gateway outside the fleet with this scope. */
const newGateway = async (
  cluster: TestCluster,
  name: string,
  serves: object
): Promise<{ id: string; apiKey: string }> => {
  const made = await cluster.create("/api/gateways", { name, publicIp: "203.0.113.251", serves })
  const apiKey = String(made["apiKey"])
  cluster.secrets.push({ name: `the key of ${name}`, text: apiKey })
  return { id: String(made["id"]), apiKey }
}

/** Deletes gateways, so that the next fault finds the network unchanged. */
const remove = async (cluster: TestCluster, ...ids: ReadonlyArray<string>): Promise<void> => {
  for (const id of ids) await cluster.node.operator.delete(`/api/gateways/${id}`)
}

const answersOf = (raw: RawWebSocket): ReadonlyArray<string> =>
  raw.texts.filter((text) => /^\{"type":"(?:error|certificate_accepted)"/u.test(text))

const invalidCertificates: Fault = {
  id: "F31",
  name: "Foreign, invalid and outdated certificates",
  injected:
    "eight certificates that must not be stored, from an unscoped gateway and from one scoped to a single domain",
  expected: "each answered with certificate_rejected; table unchanged; sessions stay open",
  nodes: 1,
  execute: async (run, cluster) => {
    const [domain = "", certificate] = await findStored(cluster)
    const limited = await newGateway(cluster, "limited", { domains: ["elsewhere.example.com"] })
    const open = { id: "spare", apiKey: cluster.spareGatewayKey }
    const before = await stored(cluster)
    cluster.fleet.reset()
    const good = issueCertificate({ names: [domain], notAfter: new Date(Date.now() + 200 * day) })
    const other = issueCertificate({ names: [domain] })
    const old = issueCertificate({ names: [domain], notAfter: new Date(Date.now() + 10 * day) })
    const past = issueCertificate({
      names: [domain],
      notBefore: new Date(Date.now() - 9 * day),
      notAfter: new Date(Date.now() - day)
    })
    const claims = [
      ["a domain without a tunnel", open, {
        domain: "unused.example.org",
        ...issueCertificate({ names: ["unused.example.org"] })
      }],
      ["a wildcard above every domain", open, { domain: "*.com", ...issueCertificate({ names: ["*.com"] }) }],
      ["a domain that this gateway does not serve", limited, { domain, ...good }],
      ["the private key of another certificate", open, { domain, ...good, privateKey: other.privateKey }],
      ["a certificate for another name", open, { domain, ...issueCertificate({ names: ["other.example.com"] }) }],
      ["an expired certificate", open, { domain, ...past }],
      ["a certificate that expires before the stored one", open, { domain, ...old }],
      ["a certificate that is not PEM", open, {
        domain,
        ...good,
        certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
      }]
    ] as const
    const sockets = {
      [open.id]: await openAuthenticated(cluster.node.wsPort, open.apiKey, true),
      [limited.id]: await openAuthenticated(cluster.node.wsPort, limited.apiKey, true)
    }
    for (const [what, gateway, data] of claims) {
      const raw = sockets[gateway.id]
      if (raw === undefined) continue
      const answered = answersOf(raw).length
      raw.send({ type: "certificate_obtained", data })
      await waitUntil(5_000, () => answersOf(raw).length > answered || raw.closeCode !== undefined)
      const answer = answersOf(raw)[answered] ?? `nothing (${raw.closeCode ?? "open"})`
      run.check(/certificate_rejected|invalid_message/u.test(answer), `${what}: ${answer.slice(0, 200)}`)
    }
    for (const raw of Object.values(sockets)) {
      run.check(raw.closeCode === undefined, `a session was closed with ${raw.closeCode}`)
      raw.cut()
    }
    run.check(await stored(cluster) === before, "the stored certificates changed")
    run.observe(`${claims.length} claims rejected, ${certificate === undefined ? 0 : 1} stored certificate untouched`)
    run.check(cluster.fleet.closes.length === 0, `other clients were closed: ${cluster.fleet.closesByCode()}`)
    await remove(cluster, limited.id)
    await withWriters(run, cluster, () => sleep(300))
    run.notTested("an audit row for each rejection, because rejections are not stored")
  }
}

const findStored = async (cluster: TestCluster): Promise<ReadonlyArray<string | undefined>> => {
  const [row] = await cluster.postgres.query("select domain, certificate from certificates limit 1")
  return [String(row?.["domain"]), row?.["certificate"] === undefined ? undefined : String(row["certificate"])]
}

const certificateFlood: Fault = {
  id: "F32",
  name: "Flood of certificates",
  injected:
    "a gateway sends 1,000 valid certificates for one domain at once, each with a later expiry; then one every 25 ms for 4 s",
  expected: "4429 for the flood; the log grows at most by the message rate (a burst of 200, then 50 per second)",
  nodes: 1,
  execute: async (run, cluster) => {
    const apiKey = cluster.spareGatewayKey
    const [row] = await cluster.postgres.query(
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
    const count = cluster.options.clients < 100 ? 400 : 1_000
    const made = Array.from({ length: count }, (_, index) => make(index))
    await withWriters(run, cluster, async (ledger) => {
      const before = await cluster.revision()
      const raw = await openAuthenticated(cluster.node.wsPort, apiKey, true)
      const began = now()
      for (const message of made) raw.send(message)
      await settled(cluster)
      const took = now() - began
      const flooded = await cluster.revision() - before
      const max = 200 + 50 * Math.ceil(took / 1_000)
      run.observe(
        `${count} at once: ${flooded} changes in the log in ${formatSeconds(took)}, ${
          raw.closeCode ?? "the session is open"
        }`
      )
      run.check(flooded <= max, `${flooded} were stored, but only ${max} messages may be read`)
      raw.cut()
      const steady = await openAuthenticated(cluster.node.wsPort, apiKey, true)
      const from = await cluster.revision()
      for (let index = 0; index < 160; index += 1) {
        const message = make(count + index)
        made.push(message)
        steady.send(message)
        await sleep(25)
      }
      await settled(cluster)
      const after = await cluster.revision() - from
      run.observe(`one every 25 ms: ${after} changes for 160 certificates, ${steady.closeCode ?? "still open"}`)
      steady.cut()
      const [last] = await cluster.postgres.query("select certificate from certificates where domain = $1", [domain])
      for (const { data } of made) {
        if (data.certificate === last?.["certificate"]) cluster.certificateKeys.set(domain, data.privateKey)
      }
      ledger.record("acknowledged", await cluster.revision() - before)
    }, { httpWriters: 0, sqlWriters: 0 })
    run.check(cluster.fleet.closes.length === 0, `other clients were closed: ${cluster.fleet.closesByCode()}`)
    await cluster.node.operator.delete(`/api/certificates/${domain}`)
    run.notTested(
      "a limit of 10 per day for each domain and gateway, because none exists"
    )
  }
}

/** Waits until the revision counter has not changed for 500 ms. */
const settled = async (cluster: TestCluster): Promise<void> => {
  let last = -1
  await requireWithin("the log does not grow", 30_000, async () => {
    const revision = await cluster.revision()
    if (revision === last) return true
    last = revision
    await sleep(500)
    return false
  })
}

export const certificates: ReadonlyArray<Fault> = [invalidCertificates, certificateFlood]
