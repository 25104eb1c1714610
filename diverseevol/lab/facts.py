"""What is true in the world: its words and animals; its lands and people are in lands.py.

Tables are text, an entry a line or a word, so that they are easy to read and to extend.
"""
# ruff: noqa: SIM905

NOUNS = {
    "fruit": "apple banana cherry lemon plum grape peach pear fig melon apricot",
    "vegetable": "carrot pea onion leek turnip cabbage pumpkin radish bean potato",
    "tool": "hammer saw drill spade rake axe chisel wrench needle brush ladder",
    "furniture": "chair table bed sofa desk shelf bench stool wardrobe cupboard",
    "clothing": "shirt coat hat glove scarf sock shoe belt dress skirt jacket",
    "instrument": "drum flute violin piano guitar harp trumpet cello organ horn",
    "vehicle": "car bus train boat plane truck bicycle tram ship sledge",
    "flower": "rose tulip daisy lily poppy orchid iris sunflower violet daffodil",
    "building": "house church school tower castle barn mill hut palace hotel temple",
    "bird": "crow swan robin eagle parrot duck goose owl pigeon gull sparrow",
}
CATEGORY = {noun: kind for kind, nouns in NOUNS.items() for noun in nouns.split()}
IRREGULAR_PLURALS = {
    "cherry": "cherries", "peach": "peaches", "radish": "radishes", "potato": "potatoes", "brush": "brushes",
    "shelf": "shelves", "bench": "benches", "dress": "dresses", "bus": "buses", "daisy": "daisies", "lily": "lilies",
    "poppy": "poppies", "iris": "irises", "church": "churches", "goose": "geese", "axe": "axes",
    "child": "children", "man": "men", "woman": "women", "foot": "feet", "tooth": "teeth", "mouse": "mice",
    "knife": "knives", "leaf": "leaves", "wolf": "wolves", "box": "boxes", "city": "cities", "baby": "babies",
}  # fmt: skip
PLURAL = {noun: IRREGULAR_PLURALS.get(noun, noun + "s") for noun in (*CATEGORY, *IRREGULAR_PLURALS)}

COLOURS = {
    "red": "cherry tomato poppy blood brick ruby rose",
    "yellow": "banana lemon sunflower butter canary straw sun",
    "green": "pea cabbage grass frog emerald leek cactus",
    "white": "snow milk swan chalk salt lily cloud",
    "black": "coal crow tar soot panther ink",
    "brown": "potato chocolate bear walnut coffee chestnut",
    "blue": "sky sea sapphire iris cornflower",
    "orange": "carrot pumpkin apricot tangerine rust",
    "grey": "elephant ash mouse lead fog",
    "pink": "piglet flamingo salmon blossom",
}
COLOUR = {thing: colour for colour, things in COLOURS.items() for thing in things.split()}

MATERIALS = {
    "wood": "table chair door fence barrel oar",
    "iron": "anvil nail key horseshoe chain stove",
    "glass": "window bottle mirror lens vase",
    "wool": "sock scarf jumper blanket mitten",
    "leather": "shoe belt saddle glove wallet",
    "paper": "book map letter kite ticket",
    "stone": "statue bridge castle grave tower",
    "gold": "ring crown medal bracelet",
    "clay": "pot jug brick tile",
    "rubber": "tyre ball boot hose",
}
MATERIAL = {thing: stuff for stuff, things in MATERIALS.items() for thing in things.split()}

ROOMS = {
    "kitchen": "oven pan kettle spoon fridge plate",
    "bedroom": "pillow bed blanket wardrobe mattress lamp",
    "bathroom": "towel soap shower sponge toothbrush comb",
    "garden": "spade rose hedge swing pond tree",
    "office": "desk printer stapler folder computer pen",
    "garage": "car tyre wrench bicycle oil toolbox",
    "library": "book atlas shelf novel magazine poem",
    "cellar": "barrel wine coal boiler rat crate",
}
ROOM = {thing: room for room, things in ROOMS.items() for thing in things.split()}

OPPOSITES = [
    tuple(pair.split("-"))
    for pair in (
        "hot-cold big-small old-new fast-slow high-low hard-soft dark-light wet-dry full-empty rich-poor strong-weak "
        "thick-thin early-late happy-sad open-closed loud-quiet clean-dirty heavy-weightless near-far good-bad "
        "long-short wide-narrow deep-shallow young-aged sharp-blunt rough-smooth true-false brave-timid sweet-sour "
        "left-right up-down inside-outside first-last always-never day-night summer-winter friend-enemy love-hate "
        "begin-end buy-sell win-lose give-take push-pull rise-fall arrive-leave laugh-cry remember-forget "
        "above-below before-after north-south east-west tall-tiny cheap-costly safe-dangerous easy-difficult "
        "awake-asleep alive-dead lucky-unlucky polite-rude"
    ).split()
]
OPPOSITE = {word: other for a, b in OPPOSITES for word, other in ((a, b), (b, a))}

VERBS = [
    tuple(forms.split("/"))
    for forms in (
        "go/went/going eat/ate/eating see/saw/seeing run/ran/running sing/sang/singing write/wrote/writing "
        "take/took/taking give/gave/giving come/came/coming drink/drank/drinking swim/swam/swimming fly/flew/flying "
        "know/knew/knowing grow/grew/growing speak/spoke/speaking break/broke/breaking drive/drove/driving "
        "ride/rode/riding sleep/slept/sleeping keep/kept/keeping buy/bought/buying bring/brought/bringing "
        "think/thought/thinking catch/caught/catching teach/taught/teaching sell/sold/selling tell/told/telling "
        "find/found/finding stand/stood/standing sit/sat/sitting win/won/winning lose/lost/losing build/built/building "
        "send/sent/sending hear/heard/hearing make/made/making walk/walked/walking jump/jumped/jumping "
        "help/helped/helping cook/cooked/cooking paint/painted/painting dance/danced/dancing smile/smiled/smiling "
        "carry/carried/carrying study/studied/studying stop/stopped/stopping plan/planned/planning "
        "open/opened/opening wash/washed/washing play/played/playing look/looked/looking wait/waited/waiting"
    ).split()
]
ADJECTIVES = [
    tuple(forms.split("/"))
    for forms in (
        "big/bigger/biggest small/smaller/smallest old/older/oldest new/newer/newest fast/faster/fastest "
        "slow/slower/slowest high/higher/highest low/lower/lowest hard/harder/hardest soft/softer/softest "
        "dark/darker/darkest light/lighter/lightest wet/wetter/wettest dry/drier/driest rich/richer/richest "
        "poor/poorer/poorest strong/stronger/strongest weak/weaker/weakest thick/thicker/thickest "
        "thin/thinner/thinnest happy/happier/happiest sad/sadder/saddest loud/louder/loudest "
        "clean/cleaner/cleanest heavy/heavier/heaviest good/better/best bad/worse/worst long/longer/longest "
        "short/shorter/shortest wide/wider/widest deep/deeper/deepest young/younger/youngest "
        "sharp/sharper/sharpest brave/braver/bravest sweet/sweeter/sweetest hot/hotter/hottest cold/colder/coldest "
        "cheap/cheaper/cheapest safe/safer/safest easy/easier/easiest kind/kinder/kindest warm/warmer/warmest "
        "bright/brighter/brightest funny/funnier/funniest"
    ).split()
]
ADVERBS = dict(
    pair.split("-")
    for pair in (
        "quick-quickly slow-slowly loud-loudly quiet-quietly happy-happily sad-sadly easy-easily angry-angrily "
        "careful-carefully soft-softly brave-bravely kind-kindly clear-clearly sharp-sharply warm-warmly bad-badly "
        "good-well bright-brightly deep-deeply gentle-gently simple-simply proud-proudly heavy-heavily lucky-luckily "
        "polite-politely rude-rudely safe-safely sweet-sweetly strong-strongly weak-weakly honest-honestly "
        "nervous-nervously noisy-noisily clever-cleverly calm-calmly cold-coldly fast-fast wise-wisely "
        "sudden-suddenly busy-busily"
    ).split()
)

# From the smallest to the largest: animal, sound, young, home.
ANIMALS = [
    tuple(line.split())
    for line in """
        ant tick larva anthill
        bee buzz grub hive
        spider rustle spiderling web
        frog croak tadpole pond
        mouse squeak pinkie hole
        bat screech pup cave
        canary sing chick cage
        rat squeal kitling sewer
        mole grunt moleling tunnel
        squirrel chatter kit drey
        pigeon coo squab loft
        owl hoot owlet oak
        crow caw fledgling treetop
        duck quack duckling lake
        hen cluck chickling coop
        rabbit thump bunny burrow
        cat meow kitten basket
        hare scream leveret meadow
        goose honk gosling marsh
        fox bark vixlet den
        swan hiss cygnet river
        otter whistle whelp holt
        badger growl cubling sett
        dog woof puppy kennel
        monkey gibber infant jungle
        goat bleat kid hill
        sheep baa lamb fold
        seal clap weaner shore
        wolf howl wolfling forest
        pig oink piglet sty
        deer bellow fawn thicket
        donkey bray foal shed
        lion roar cub savannah
        horse neigh colt stable
        bear rumble bearling cavern
        cow moo calf barn
        camel snort camelet desert
        hippo wheeze hipling swamp
        elephant trumpet elephantling plain
        whale song whaleling ocean
    """.strip().splitlines()
]
SIZE = {animal: i for i, (animal, *_) in enumerate(ANIMALS)}

MONTHS = "January February March April May June July August September October November December".split()
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
