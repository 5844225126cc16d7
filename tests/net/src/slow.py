"""DEVICE DELAY_MS LOSS_PERCENT: what comes out of the TUN device goes into it again after the delay, unless it is lost."""
import collections, fcntl, os, random, select, struct, sys, time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
device, delay, loss = sys.argv[1].encode(), float(sys.argv[2]) / 1000, float(sys.argv[3]) / 100
tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device, IFF_TUN | IFF_NO_PI))
chance = random.Random(20261122)
waiting = collections.deque()
print("ready")
while True:
    wait = max(0, waiting[0][0] - time.monotonic()) if waiting else None
    if select.select([tun], [], [], wait)[0]:
        packet = os.read(tun, 65536)
        if chance.random() >= loss:
            waiting.append((time.monotonic() + delay, packet))
    while waiting and waiting[0][0] <= time.monotonic():
        os.write(tun, waiting.popleft()[1])
