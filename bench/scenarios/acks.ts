/** 1,000 gateways of `control.v1` acknowledge every step of a steady stream of changes: what that makes the database write. */
import { formatUsage, type Scenario } from "#bench/support/Bench.ts"
import { ChangeWriter } from "#bench/support/ChangeWriter.ts"
import { sleep } from "#bench/support/clock.ts"

const gateways = 1_000
const perSecond = 20
const reach = 0.02

/** Until what was heard last is written (every five seconds), and until PostgreSQL tells how many rows it was (ten). */
const writtenAfterMillis = 12_000

export const acks: Scenario = {
  name: "acks",
  description: `${perSecond} changes a second to ${gateways} gateways of control.v1, acknowledged and not`,
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
      const ackedBefore = await bench.loadGenerator.call("setAcknowledging", {
        name: "control",
        isWanted: isAcknowledged
      })
      const rows = await rowsWritten()
      const [seen, usage] = await bench.measure(control, async () => {
        const result = await changes.updateAtRate(network, perSecond, seconds)
        await sleep(writtenAfterMillis)
        return result
      }, isAcknowledged ? "all" : undefined)
      const acked = await bench.loadGenerator.call("setAcknowledging", { name: "control", isWanted: false }) -
        ackedBefore
      return { seen, usage, acked, rows: await rowsWritten() - rows }
    }
    await changes.updateAtRate(network, perSecond, 2)
    await sleep(writtenAfterMillis)
    // What else is written meanwhile is not the same all the time, so it is taken before and after.
    const before = await stream(false)
    const heard = await stream(true)
    const [noted] = await network.query(
      "select count(*)::int as clients from gateways where applied_revision = (select max(revision) from changes)"
    )
    const after = await stream(false)
    if (before.acked + after.acked !== 0 || heard.acked !== heard.seen.expected || noted?.["clients"] !== gateways) {
      throw new Error(
        `${heard.acked} acknowledgements of ${heard.seen.expected} steps; ${String(noted?.["clients"])} clients noted`
      )
    }
    const each = (figure: (run: typeof heard) => number) =>
      (figure(heard) - (figure(before) + figure(after)) / 2) / heard.acked
    const use = formatUsage(heard.usage)
    const row = (what: string, value: number, use: string) =>
      bench.addRow({
        label: `acknowledgement: ${what} for each, beyond the same without`,
        control: value.toPrecision(2),
        bare: "",
        goal: String(reach),
        isMet: value < reach,
        usage: use
      })
    row("write transactions", each(({ usage }) => usage.transactions), use)
    row(
      "rows written",
      each(({ rows }) => rows),
      `${Math.round(each(({ usage }) => usage.walBytes))} bytes of log for each`
    )
  }
}
