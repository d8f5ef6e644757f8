/** A complete agent without its WireGuard part: `CONTROL_URL=ws://… CONTROL_API_KEY=… node examples/agent-in-30-lines.ts` */
import { type AgentView, startAgent } from "control/client"

const { CONTROL_API_KEY, CONTROL_STATE_FILE = "agent-state.json", CONTROL_URL = "ws://127.0.0.1:3001" } = process.env
if (!CONTROL_API_KEY) process.exit(console.error("set CONTROL_API_KEY to the API key of an agent") ?? 1)

const agent = startAgent({
  url: CONTROL_URL,
  apiKey: CONTROL_API_KEY,
  stateFile: CONTROL_STATE_FILE,
  clientVersion: "agent-in-30-lines/1",
  apply: async (view, { revision, source }) => {
    await configureWireGuard(view)
    agent.reportStatus([...view.tunnels.values()].map(({ domain }) => ({ domain, status: "active" })))
    console.log(`revision ${revision} from ${source}: ${view.tunnels.size} tunnels`)
  },
  onEvent: (event) => event.type !== "applied" && console.log(JSON.stringify(event))
})

process.once("SIGINT", () => void agent.close()).once("SIGTERM", () => void agent.close())
const { code } = await agent.stopped
process.exitCode = code === 1000 ? 0 : 1

/** Replace the body by `wg syncconf`. Operators of Control see every error that this function throws. */
async function configureWireGuard({ agent, gateways }: AgentView): Promise<void> {
  for (const { endpoint, wireguardPublicKey } of gateways.values()) {
    if (endpoint !== null) console.log(`${agent.virtualIp} → ${wireguardPublicKey} at ${endpoint}`)
  }
}
