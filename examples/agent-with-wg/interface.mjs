/** The WireGuard interface of an agent, made with `ip` and `wg`. `nft` opens the ports of the tunnels only. */
import { execFileSync } from "node:child_process"

const run = (command, ...args) => execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
/** `wg` and `nft` need a pipe, and Node gives them a socket. */
const runWithInput = (input, command) => execFileSync("sh", ["-c", `cat | ${command}`], { input, stdio: "pipe" })

export function createInterface(name) {
  deleteInterface(name)
  try {
    run("ip", "link", "add", name, "type", "wireguard")
  } catch {
    // This kernel has no WireGuard. The program goes to the background, and ends when the interface is deleted.
    execFileSync("wireguard-go", [name], { stdio: "ignore" })
  }
}

/** `peers`: gateways with an endpoint and an address. `ports`: TCP ports that the gateways may use. */
export function configureInterface(name, { agent, mtu, peers, ports }) {
  // Without a ListenPort, `wg syncconf` chooses another port each time, and the gateways would lose the agent.
  const listenPort = run("wg", "show", name, "listen-port")
  const own = `[Interface]\nPrivateKey = ${agent.wireguardPrivateKey}\nListenPort = ${listenPort}`
  const sections = peers.map(({ endpoint, virtualIps: [address], wireguardPublicKey }) =>
    `[Peer]
PublicKey = ${wireguardPublicKey}
Endpoint = ${endpoint}
AllowedIPs = ${address}/32
PersistentKeepalive = 25
`)
  runWithInput(own + sections.join(""), `wg syncconf ${name} /dev/stdin`)
  const address = `${agent.virtualIp}/${agent.subnet.split("/")[1]}`
  if (!run("ip", "-o", "addr", "show", "dev", name).includes(` ${address} `)) run("ip", "addr", "flush", "dev", name)
  run("ip", "addr", "replace", address, "dev", name)
  run("ip", "link", "set", name, "up", "mtu", String(mtu))
  const accepted = ports.map((port) => `iifname "${name}" tcp dport ${port} accept`)
  const table = `table inet ${name} {}
delete table inet ${name}
table inet ${name} {
  chain input {
    type filter hook input priority 0
    ${accepted.join("\n    ")}
    iifname "${name}" meta l4proto icmp accept
    iifname "${name}" drop
  }
}
`
  runWithInput(table, "nft -f /dev/stdin")
}

export function deleteInterface(name) {
  for (const command of [["ip", "link", "delete", name], ["nft", "delete", "table", "inet", name]]) {
    try {
      run(...command)
    } catch {
      // It does not exist.
    }
  }
}
