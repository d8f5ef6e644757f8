/** Measures what the database writes when 1,000 `control.v1` gateways acknowledge every delta of a steady stream. */
import { formatUsage, type Scenario } from "#bench/support/BenchRun.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/timing.ts"

const gateways = 1_000
const perSecond = 20
const maxPerAcknowledgement = 0.02

/** Covers the presence write (every 5 s) and the delay of PostgreSQL's row statistics (10 s). */
const writeDelayMillis = 12_000

export const acks: Scenario = {
  name: "acks",
  description:
    `${perSecond} changes per second to ${gateways} gateways of control.v1, with and without acknowledgements`,
  timeoutMillis: 240_000,
  run: async (bench) => {
    const seconds = bench.repetitions(15, 10)
    const network = await bench.createNetwork({ agents: 50, gateways, tunnels: 500 })
    const control = await bench.startControl(network)
    await bench.connectClients("control", control, "gateway", network.gatewayKeys, 100, { acknowledge: false })
    const changes = new ChangeWriter(bench, "control")
    await sleep(1_000)

    const rowsWritten = async () => {
      const [row] = await network.query(
        "select sum(n_tup_upd)::float8 as rows from pg_stat_user_tables where relname in ('agents', 'gateways')"
      )
      return Number(row?.["rows"])
    }
    const stream = async (isAcknowledged: boolean) => {
      const acknowledgementsBefore = await bench.loadGenerator.call("setAcknowledging", {
        name: "control",
        isWanted: isAcknowledged
      })
      const rows = await rowsWritten()
      const [delivery, usage] = await bench.measure(control, async () => {
        const result = await changes.updateAtRate(network, perSecond, seconds)
        await sleep(writeDelayMillis)
        return result
      }, isAcknowledged ? "all" : undefined)
      const acknowledgements =
        await bench.loadGenerator.call("setAcknowledging", { name: "control", isWanted: false }) -
        acknowledgementsBefore
      return { delivery, usage, acknowledgements, rows: await rowsWritten() - rows }
    }
    await changes.updateAtRate(network, perSecond, 2)
    await sleep(writeDelayMillis)
    // The rate of other writes changes over time, so a stream without acknowledgements runs before and after.
    const before = await stream(false)
    const acknowledged = await stream(true)
    const [stored] = await network.query(
      "select count(*)::int as clients from gateways where applied_revision = (select max(revision) from changes)"
    )
    const after = await stream(false)
    if (
      before.acknowledgements + after.acknowledgements !== 0 ||
      acknowledged.acknowledgements !== acknowledged.delivery.expected || stored?.["clients"] !== gateways
    ) {
      throw new Error(
        `${acknowledged.acknowledgements} acknowledgements of ${acknowledged.delivery.expected} deltas; ${
          String(stored?.["clients"])
        } of ${gateways} clients have the latest applied_revision`
      )
    }
    const perAcknowledgement = (measure: (run: typeof acknowledged) => number) =>
      (measure(acknowledged) - (measure(before) + measure(after)) / 2) / acknowledged.acknowledgements
    const cpuUsage = formatUsage(acknowledged.usage)
    const addRow = (what: string, value: number, usage: string) =>
      bench.addRow({
        label: `acknowledgement: additional ${what}, each`,
        control: value.toPrecision(2),
        bare: "",
        goal: String(maxPerAcknowledgement),
        isMet: value < maxPerAcknowledgement,
        usage
      })
    addRow("write transactions", perAcknowledgement(({ usage }) => usage.transactions), cpuUsage)
    addRow(
      "rows written",
      perAcknowledgement(({ rows }) => rows),
      `${Math.round(perAcknowledgement(({ usage }) => usage.walBytes))} bytes of WAL each`
    )
  }
}
