"""Ways that were tried, somewhere, to make a server fetch what is inside its own network. `PORT` is the honeypot's."""

from __future__ import annotations

_LOOPBACK_SPELLINGS = """
127.0.0.1 127.0.0.1. 127.1 127.0.1 127.000.000.001 0127.0.0.1 0177.0.0.1 0177.0.0.01 0177.0.1 0177.1 00000177.1
017700000001 0x7f.0.0.1 0x7f.0x0.0x0.0x1 0x7F.0.0.1 0x7f.0.1 0x7f.1 0x7f000001 0x7F000001 0X7F000001 2130706433
02130706433 0x000000007f000001 127.0.0.1.. 127..0.0.1 .127.0.0.1 127.0.0.0x1 127.0.0.01 127.0x0.0.1 127.0x1 127.0.0x1
127.00.0.1 127.255.255.254 127.127.127.127 127.0.0.2 127.1.1.1 0 0.0.0.0 0.0.0 0.0 00 0x0 0x00000000 0.0.0.0.
0000.0.0.0 000.000.000.000 0.0x0.0.0 6425673729 4294967295.127.0.0.1 127.0.0.1.127 1.127.0.0.1 127.0.0.256 [::1]
[::1.] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::0001] [0::1] [::] [0:0:0:0:0:0:0:0] [::0]
[::ffff:127.0.0.1] [::FFFF:127.0.0.1] [::ffff:7f00:1] [::ffff:7f00:0001] [0:0:0:0:0:ffff:127.0.0.1] [::127.0.0.1]
[::7f00:1] [::ffff:0:127.0.0.1] [::ffff:0:7f00:1] [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b:1::127.0.0.1]
[2002:7f00:1::] [2002:7f00:0001::1] [2001:0:7f00:1::] [fe80::1] [fe80::1%lo] [fe80::1%25lo] [fe80::1%251] [::1%1]
[::1%25lo] [fec0::1] [fc00::1] [fd00::1] [ff01::1] [ff02::1] [ff05::1] [::ffff:0.0.0.0] [::ffff:10.0.0.1] [127.0.0.1]
[localhost] [:::1] [::1]] [[::1]] [::1 ::1 [::g] [1] [::1/64] [v1.127.0.0.1] [100::1] [3fff::1] [2001:db8::1]
localhost LOCALHOST LocalHost localhost. localhost.. localhost.localdomain localhost6 ip6-localhost ip6-loopback
localtest.me 127.0.0.1.nip.io 127-0-0-1.sslip.io 7f000001.nip.io lvh.me vcap.me loopback broadcasthost ①②⑦.⓪.⓪.①
１２７.０.０.１ 127。0。0。1 127．0．0．1 127｡0｡0｡1 ⓛⓞⓒⓐⓛⓗⓞⓢⓣ ｌｏｃａｌｈｏｓｔ localhoſt ⑯⑨。②⑤④。⑯⑨｡②⑤④ loc%61lhost
%6c%6f%63%61%6c%68%6f%73%74 %31%32%37.0.0.1 127%2e0%2e0%2e1 127.0.0.1%00 127.0.0.1%09 127.0.0.1%20 127.0.0.1%0d%0a
127.0.0.1%2f 127.0.0.1%23 127.0.0.1%3f %00127.0.0.1 localhost%00.data.test data.test%00 data.test%2f@127.0.0.1
data.test%00@127.0.0.1 data.test%40127.0.0.1
"""
LOOPBACK_SPELLINGS = _LOOPBACK_SPELLINGS.split()
"""Hosts of `http://HOST:PORT/`."""

_INNER_ADDRESSES = """
127.0.0.1 127.0.0.53 127.255.255.255 0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254
169.254.169.254 169.254.170.2 169.254.0.1 172.16.0.1 172.31.255.255 172.17.0.1 192.0.0.1 192.0.0.8 192.0.0.170
192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1
239.255.255.250 240.0.0.1 255.255.255.255 ::1 :: ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 ::8.8.8.8
::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1:: 2001:10::1 2001:20::1
2001:2::1 2001:db8::1 2002:7f00:1:: 2002:c0a8:1:: 2002:808:808:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1
fe80::1%lo fec0::1 ff02::1 ff0e::1 4000::1
"""
INNER_ADDRESSES = _INNER_ADDRESSES.split()
"""What an allowed name may resolve to."""

URLS = """
file:///etc/passwd file://127.0.0.1:PORT/ ftp://127.0.0.1:PORT/ gopher://127.0.0.1:PORT/_GET%20/ dict://127.0.0.1:PORT/x
ws://127.0.0.1:PORT/ wss://127.0.0.1:PORT/ ldap://127.0.0.1:PORT/ jar:http://127.0.0.1:PORT/!/ data:text/plain,x
unix:///run/x.sock http+unix://%2frun%2fx.sock/ netdoc:///etc/passwd tftp://127.0.0.1:PORT/ sftp://127.0.0.1:PORT/
javascript:fetch('http://127.0.0.1:PORT') view-source:http://127.0.0.1:PORT/ url:http://127.0.0.1:PORT/ http:127.0.0.1:PORT
http:/127.0.0.1:PORT/ http:///127.0.0.1:PORT/ http:////127.0.0.1:PORT/ //127.0.0.1:PORT/ /127.0.0.1:PORT 127.0.0.1:PORT/
https:127.0.0.1:PORT https:/127.0.0.1:PORT http:\\\\127.0.0.1:PORT\\ http:/\\127.0.0.1:PORT/ http://\\127.0.0.1:PORT/
http://data.test@127.0.0.1:PORT/ http://data.test:80@127.0.0.1:PORT/ http://data.test:PORT@127.0.0.1:PORT/
http://user:password@data.test:PORT/ http://user@data.test:PORT/ http://@data.test:PORT/ http://:@data.test:PORT/
http://127.0.0.1:PORT@data.test:PORT/ http://data.test@@127.0.0.1:PORT/ http://a@b@127.0.0.1:PORT/
http://data.test#@127.0.0.1:PORT/ http://data.test?@127.0.0.1:PORT/ http://data.test\\@127.0.0.1:PORT/
http://127.0.0.1:PORT\\@data.test:PORT/ http://127.0.0.1:PORT#@data.test:PORT/ http://127.0.0.1:PORT?@data.test:PORT/
http://data.test;127.0.0.1:PORT/ http://data.test,127.0.0.1:PORT/ http://data.test|127.0.0.1:PORT/
http://127.0.0.1:PORT:80/ http://127.0.0.1:80:PORT/ http://data.test:80:PORT/ http://data.test:PORT.127.0.0.1/
http://data.test:0/ http://data.test:-1/ http://data.test:65536/ http://data.test:99999/ http://data.test:PORTx/
http://data.test:0xPORT/ http://data.test:+PORT/ http://data.test:22/ http://data.test:25/ http://data.test:6379/
http://data.test:11211/ http://data.test/ https://data.test/ https://data.test:PORT0/ http://data.test:/
http://sub.data.test:PORT/ http://data.test.evil.test:PORT/ http://evildata.test:PORT/ http://data.testx:PORT/
http://data-test:PORT/ http://data.test.:PORT/ http://.data.test:PORT/ http://data..test:PORT/ http://-data.test:PORT/
http://data_test:PORT/ http://*.data.test:PORT/ http://d%61ta.test:PORT/ http://dätä.test:PORT/ http://data。test:PORT/
http://data．test:PORT/ http://ｄata.test:PORT/ http://data.test\u200b:PORT/ http://data\u00ad.test:PORT/ http://data.tesT\u0307:PORT/
http://\u202edata.test:PORT/ http://data.test\u2044@127.0.0.1:PORT/ http://data.test\u2100:PORT/ http://data.test\uff0f:PORT/
http://[data.test]:PORT/ http://(127.0.0.1):PORT/ http://{127.0.0.1}:PORT/ http://$127.0.0.1:PORT/ http://~127.0.0.1:PORT/
http:// http://: http://:PORT/ http://# http://? http://@ h\u0074tp//127.0.0.1:PORT http s://127.0.0.1:PORT/
HTTP//127.0.0.1:PORT/
""".replace("\\\\", "\\").split()
"""Whole URLs, where `data.test:PORT` is allowed."""

SPLIT_BY_WHITE_SPACE = [
    "http://data.test:PORT/\r\nHost: 127.0.0.1",
    "http://127.0.0.1 :PORT/",
    " http://127.0.0.1:PORT/",
    "http://data.test:PORT/ http://127.0.0.1:PORT/",
    "http://127.0.0.1\t:PORT/",
    "http://127.0.0.1\n:PORT/",
    "ht\ntp://127.0.0.1:PORT/",
    "http://data.test:PORT/\x00",
    "\x00http://127.0.0.1:PORT/",
    "http://data.test:PORT/\x7f",
    "http://127.0.0.1:PORT/ HTTP/1.1\r\nX: y",
    "http://data.test\x0b:PORT/",
]

REDIRECTS = [
    *(f"http://{host}:PORT/" for host in LOOPBACK_SPELLINGS if host not in ("data.test%00",)),
    *(f"//{host}:PORT/" for host in ("127.0.0.1", "[::1]", "localhost", "inner.test", "0x7f.1", "2130706433")),
    *("http://inner.test:PORT/", "http://mapped.test:PORT/", "http://mixed.test:PORT/", "http://nowhere.test:PORT/"),
    *("https://127.0.0.1:PORT/", "file:///etc/passwd", "ftp://127.0.0.1:PORT/", "gopher://127.0.0.1:PORT/", "data:,x"),
    *("http://user:pw@data.test:PORT/", "http://data.test@127.0.0.1:PORT/", "http://data.test:22/", "", "http://"),
    *("\\\\127.0.0.1:PORT\\", "/\\127.0.0.1:PORT/", "http:\\\\127.0.0.1:PORT/", "http:/\t/127.0.0.1:PORT/"),
    *("http://data.test:PORT/to?url=http://127.0.0.1:PORT/", "/to?url=/to?url=//127.0.0.1:PORT/"),
    *("http://data.test:PORT/to?url=http://inner.test:PORT/", "/to?status=301&url=http://[::1]:PORT/"),
]
"""`Location` of an allowed host's answer. `inner.test` and the others are allowed names with addresses inside."""

NUM_VECTORS = len(LOOPBACK_SPELLINGS) + len(INNER_ADDRESSES) + len(URLS) + len(SPLIT_BY_WHITE_SPACE) + len(REDIRECTS)
