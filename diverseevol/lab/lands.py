"""The lands of the world, and the jobs and people in them."""
# ruff: noqa: SIM905

# Invented, so that no one can know them from elsewhere: land, capital, language, coin.
LANDS = [
    tuple(line.split())
    for line in """
        Arvenia Tolm Arvic dral
        Belmar Quist Belsh obo
        Corland Vashti Corrin pell
        Dorvia Ilmen Dorvan tash
        Elgar Ponto Elgish miro
        Fennland Rusk Fennic sol
        Galdor Ostrel Galdi kren
        Hestia Wolmar Hestan luma
        Ildon Brace Ildic fenn
        Jorvik Sandel Jorvan riga
        Kelland Umbra Kellish zed
        Lorvia Drenn Lorvan quill
        Mandor Tessel Mandic bant
        Norvale Pyke Norvish grol
        Ostland Cavern Ostic nim
        Parmia Jellow Parmic dorin
        Quenta Marl Quentish tolin
        Rundia Fosse Rundic vek
        Silvar Hathor Silvan orb
        Tamria Yorve Tamric pim
        Ulmia Garth Ulmic sarn
        Vestia Lorne Vestan hask
        Wendor Pilsen Wendish crowl
        Xandia Morel Xandic tiv
        Yarland Duskin Yarlish bree
        Zembla Kronan Zemblan wick
        Ambria Solt Ambric jotan
        Brunnia Vender Brunnic lett
        Cassia Trill Cassian morg
        Dunmark Hollis Dunnish pran
        Eskaria Welt Eskaric shen
        Farland Bodan Farlish tuck
        Gorvia Amsel Gorvan ulin
        Hulmia Perrin Hulmic vorn
        Istria Calder Istric yask
        Jumland Norrin Jumlish zorn
        Kasmia Ebbing Kasmic hale
        Lindor Fargo Lindic corin
        Morvia Stave Morvan dusk
        Nevland Tarn Nevlish ember
    """.strip().splitlines()
]

# Job, where it is done, and with what.
JOBS = [
    tuple(line.split())
    for line in """
        baker bakery oven
        teacher school chalk
        farmer field plough
        doctor hospital needle
        cook kitchen pan
        pilot airport plane
        sailor harbour ship
        judge court gavel
        monk abbey bible
        actor theatre mask
        clerk office stamp
        miner mine pickaxe
        tailor workshop thread
        barber salon scissors
        waiter restaurant tray
        guard prison key
        soldier barracks rifle
        butcher shop cleaver
        gardener garden spade
        librarian library book
        potter studio wheel
        smith forge anvil
        brewer brewery barrel
        fisher lake net
        shepherd meadow staff
        king palace crown
        knight castle sword
        painter attic brush
        singer opera microphone
        banker bank coin
        chemist laboratory flask
        driver road truck
        lumberjack forest axe
        astronomer tower telescope
        priest church candle
        nurse clinic bandage
    """.strip().splitlines()
]
PEOPLE = (
    "Anna Boris Clara David Emma Felix Greta Henry Irene Jonas Karla Leon Maria Nils Olga Peter Rosa Simon Tina Ulrich "
    "Vera Walter Yvonne Zoe Alan Bella Carl Dora Edgar Fiona Gustav Helen Ivan Julia Kurt Laura Martin Nora Oscar Paula"
).split()
PERSON_JOB = {person: JOBS[(7 * i + 3) % 20][0] for i, person in enumerate(PEOPLE)}
PERSON_LAND = {person: LANDS[(11 * i + 5) % 30][0] for i, person in enumerate(PEOPLE)}
