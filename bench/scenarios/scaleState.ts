/** Measures a node on a network of 100,000 agents and 100,000 tunnels: its start, its memory, a reload, and configs for gateways. */
import type { Network } from "#bench/support/BenchDatabase.ts"
import { type BenchRun, type Scenario } from "#bench/support/BenchRun.ts"
import { ChangeWriter, waitUntilIdle } from "#bench/support/ChangeWriter.ts"
import { quantile } from "#bench/support/quantiles.ts"
import { kilobytes, milliseconds } from "#bench/support/resultTable.ts"
import type { Control } from "#bench/support/servers.ts"
import { now, sleep } from "#bench/support/timing.ts"

/** Gateways that connect; the others of the 1,000 only exist. */
const connectedGateways = 20

const reloadTimeoutMillis = 120_000

export const scaleState: Scenario = {
  name: "scale-state",
  description:
    "one node on 100,000 agents, 100,000 tunnels and 1,000 gateways: start, memory, reload, configs, one change",
  timeoutMillis: 600_000,
  run: async (bench) => {
    const rows = bench.repetitions(100_000, 20_000)
    const network = await bench.createNetwork({ agents: rows, gateways: 1_000, tunnels: rows })
    const select = await selectRows(network)
    const startedAt = now()
    const control = await bench.startControl(network)
    const readyMillis = now() - startedAt
    const cpuMillis = await control.probe.call("cpu", undefined as never)
    const size = `${rows} agents and ${rows} tunnels`
    bench.addRow({
      label: `start on ${size}, until ready / a plain SELECT of the same rows by the driver`,
      control: `${milliseconds(readyMillis)} / ${milliseconds(select.millis)}`,
      bare: "",
      ratio: readyMillis / select.millis,
      goal: "15 s",
      isMet: readyMillis <= 15_000,
      usage: `longest block of the event loop ${milliseconds(await longestBlock(control))}`
    })
    bench.addRow({
      label: `start on ${size}, CPU of the server / of the plain SELECT`,
      control: `${milliseconds(cpuMillis)} / ${milliseconds(select.cpuMillis)}`,
      bare: "",
      ratio: cpuMillis / select.cpuMillis
    })
    const { heap, resident } = await control.probe.call("memory", undefined as never)
    bench.addRow({
      label: `memory of ${size}: heap for each row`,
      control: kilobytes(heap / (select.rows)),
      bare: "",
      usage: `heap ${Math.round(heap / 1e6)} MB, resident ${Math.round(resident / 1e6)} MB`
    })
    await measureReload(bench, control, network, select.millis)
    await measureGateways(bench, control, network)
  }
}

/** Time and CPU of this process for reading the same rows with nothing done to them. */
async function selectRows(network: Network) {
  const before = process.cpuUsage()
  const startedAt = now()
  let rows = 0
  for (const table of ["agents", "gateways", "tunnels", "certificates", "api_keys"]) {
    rows += (await network.query(`select * from ${table}`)).length
  }
  const millis = now() - startedAt
  const { system, user } = process.cpuUsage(before)
  return { rows, millis, cpuMillis: (system + user) / 1_000 }
}

/** A new timeline, as after a restore, makes every node read the whole network again. */
async function measureReload(bench: BenchRun, control: Control, network: Network, selectMillis: number): Promise<void> {
  await longestBlock(control)
  const { timeline } = await readNetwork(control)
  const startedAt = now()
  await network.query("update control_meta set timeline = gen_random_uuid()::text")
  while ((await readNetwork(control)).timeline === timeline) {
    if (now() - startedAt > reloadTimeoutMillis) throw new Error("the node did not reload the network")
    await sleep(20)
  }
  const millis = now() - startedAt
  bench.addRow({
    label: "reload after a restore / a plain SELECT of the same rows",
    control: `${milliseconds(millis)} / ${milliseconds(selectMillis)}`,
    bare: "",
    ratio: millis / selectMillis,
    usage: `longest block of the event loop ${milliseconds(await longestBlock(control))}`
  })
}

async function measureGateways(bench: BenchRun, control: Control, network: Network): Promise<void> {
  await waitUntilIdle(control)
  await longestBlock(control)
  const [first = "", ...others] = network.gatewayKeys.slice(0, connectedGateways)
  const [{ configBytes, millis: firstMillis }] = await bench.measure(
    control,
    () => bench.connectClients("first", control, "gateway", [first])
  )
  const [{ p50 }, usage] = await bench.measure(
    control,
    () => bench.connectClients("gateways", control, "gateway", others)
  )
  bench.addRow({
    label: `config of ${kilobytes(configBytes)}: the first gateway / ${others.length} more at once, p50`,
    control: `${milliseconds(firstMillis)} / ${milliseconds(p50)}`,
    bare: "",
    usage: `CPU ${milliseconds(usage.serverMillis / others.length)} each, longest block ${
      milliseconds(await longestBlock(control))
    }`
  })
  const changes = new ChangeWriter(bench, "gateways")
  const receipts: Array<number> = []
  for (let index = 0; index < bench.repetitions(40, 10); index += 1) {
    receipts.push((await changes.updateBySql(network, 1)).receiptTimes.last)
  }
  bench.addRow({
    label: `one change to ${others.length} gateways, to the last of them, p50 / p99`,
    control: `${milliseconds(quantile(receipts, 0.5))} / ${milliseconds(quantile(receipts, 0.99))}`,
    bare: "",
    usage: `longest block of the event loop ${milliseconds(await longestBlock(control))}`
  })
}

const readNetwork = async (control: Control): Promise<{ readonly timeline: string }> =>
  (await getFromApi(control, "/api/network")).json() as Promise<{ readonly timeline: string }>

/** Longest block of the event loop since the previous call, in milliseconds. */
async function longestBlock(control: Control): Promise<number> {
  const text = await (await getFromApi(control, "/metrics")).text()
  const seconds = /^control_event_loop_delay_seconds\{quantile="1"\} (\S+)/mu.exec(text)?.[1]
  return 1_000 * Number(seconds)
}

const getFromApi = ({ adminToken, apiUrl }: Control, path: string): Promise<Response> =>
  fetch(`${apiUrl}${path}`, { headers: { Authorization: `Bearer ${adminToken}` } })
