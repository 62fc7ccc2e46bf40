"""The words of the starter pictures: things and what else people call them, colours, grounds, relations. Data.

Emoji names follow Unicode CLDR; synonyms are CLDR's keywords where they mean the thing, and what people type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from studio.train import world
from studio.train.world import Thing

_MORE = """
😀 smiley face, 😎 smiley face with sunglasses, 😍 smiley face with heart eyes, 😢 crying face, 😡 angry face,
😴 sleeping face, 🤠 cowboy, 🤡 clown, 🎅 santa claus, 🧙 wizard, 🧜‍♀️ mermaid, 🧚 fairy, 🧛 vampire, 🧟 zombie, 👸 princess,
🤴 prince, 👶 baby, 👮 police officer, 🧑‍🚀 astronaut, 🧑‍🍳 cook, 🧑‍🎨 artist, 🥷 ninja, ❤️ heart, 🌍 globe, 🔔 bell, 🥚 egg,
🍫 chocolate bar, 🧦 socks, 🧤 gloves, 🧢 cap, 💍 ring, ⌚ watch, 🥔 potato, 🧅 onion, 🧄 garlic, 🥒 cucumber, 🍑 peach,
🥭 mango, 🥜 peanuts, 🌰 chestnut, 🦭 seal, 🦫 beaver, 🦧 orangutan, 🐺 wolf, 🐂 ox, 🐐 goat, 🦙 llama, 🐿️ chipmunk,
🐹 hamster, 🐛 caterpillar, 🐜 ant, 🦟 mosquito, 🦗 cricket, 🦐 shrimp, 🐀 rat, 🦃 turkey, 🦤 dodo, 🦣 mammoth,
🦕 brontosaurus, 🦛 hippopotamus, 🐆 leopard, 🐅 tiger, 🦨 skunk, 🦡 badger, 🦦 otter, 🐋 blue whale, 🐾 paw prints,
🪶 feather, 🌊 wave, ⚡ lightning, ☀️ sunshine, 🌕 full moon, ☄️ comet, 🌪️ tornado, 🏝️ desert island, 🏔️ mountain,
🏖️ beach with umbrella, 🌉 bridge at night, 🗽 statue of liberty, 🗼 tokyo tower, ⛪ church, 🏥 hospital, 🏫 school, 🏭 factory,
🎠 carousel horse, 🎢 roller coaster, 🚠 cable car, 🛴 kick scooter, 🚃 railway car, 🛰️ satellite, 🎯 dartboard, 🎲 die,
🧩 puzzle piece, ♟️ chess pawn, 🎳 bowling, 🥊 boxing glove, 🥇 gold medal, 🎨 palette, 🎹 piano keyboard, 🪕 banjo,
📻 radio, ☎️ telephone, 🔦 flashlight, 📎 paperclip, 📌 pushpin, 🪣 bucket, 🧹 broom, 🧺 basket, 🧻 roll of paper,
🧼 soap, 🛒 shopping cart, 🪜 ladder, 🧱 brick, ⚙️ gear, 🔧 wrench, 🪛 screwdriver, 🪚 saw, 🗡️ dagger, 🛡️ shield,
🏹 bow and arrow, 💣 bomb, 💰 money bag, 🪙 coin, 🗝️ old key, 🚪 door, 🪞 mirror, 🪟 window, 🛁 bathtub, 🚿 shower,
🧊 ice cube, 🍵 tea, 🥛 glass of milk, 🍹 cocktail, 🥂 champagne glasses, 🍝 spaghetti, 🥗 salad, 🍲 pot of food, 🥓 bacon,
🥩 steak, 🍗 chicken leg, 🧇 waffle, 🧈 butter, 🍙 rice ball, 🍤 fried shrimp, 🥟 dumpling, 🍡 dango, 🍮 custard,
💐 bouquet, 🌱 seedling, 🌾 sheaf of rice, 🍂 fallen leaves, 🪵 wood, 🪨 rock, 🐚 spiral shell, 🪸 coral, 🎀 ribbon,
🪆 nesting dolls, 🎏 carp streamer, 🏮 red lantern, 🧨 firecracker, 🎆 fireworks, 🗺️ map, 🧭 compass, 💾 floppy disk,
🖨️ printer, 🖱️ computer mouse, 🎬 clapper board, 🎥 movie camera, 🔬 microscope, 🧪 test tube, 💊 pill, 🩺 stethoscope,
🚧 construction barrier, ⛽ fuel pump, 🏁 chequered flag, 🪂 parachute, 🏄 surfer, 🚴 cyclist, ⛷️ skier, 🧘 person in lotus position
"""

# What else people call a thing. A word stands at one thing only.
_SYNONYMS = """
dog face: puppy, doggy, pup, doggie, dog head | dog: hound | cat face: kitten, kitty, cat head | cat: tomcat, pussycat |
tiger face: tiger head | horse: stallion, mare | unicorn: unicorn horse | cow: cattle | pig face: pig head, piggy |
pig: hog, swine | sheep: lamb, ewe | camel: dromedary | rhinoceros: rhino | mouse face: mouse | rabbit face: bunny |
bear: bear head, grizzly | rooster: cock, chicken, hen | hatching chick: chick | bird: birdie, songbird, robin |
duck: mallard | parrot: macaw, budgie | frog: toad | crocodile: alligator, croc | turtle: tortoise | snake: serpent, python |
t-rex: tyrannosaurus, dinosaur, dino | brontosaurus: long-necked dinosaur, sauropod | blowfish: pufferfish |
honeybee: bee, bumblebee | lady beetle: ladybug, ladybird, beetle | raccoon: racoon | gorilla: ape | deer: stag, reindeer |
cherry blossom: blossom flower | blossom: flower, daisy | palm tree: palm | four leaf clover: clover, shamrock |
maple leaf: leaf | mushroom: toadstool | snowflake: snow crystal | sun: sun with face | sunshine: the sun |
crescent moon: moon | fire: flame, campfire | droplet: drop, water drop | planet: saturn, ringed planet | red apple: apple |
orange: tangerine, mandarin | banana: bananas bunch | grapes: grape | blueberries: blueberry | cherries: cherry |
kiwi: kiwifruit | tomato: tomatoes on vine | eggplant: aubergine | corn: maize, ear of corn | hot pepper: chili, chilli, pepper |
bread: loaf, loaf of bread, toast | pancakes: pancake | hamburger: burger, cheeseburger | french fries: fries, chips |
hot dog: hotdog, sausage | fried egg: cooking | ice cream: soft ice, icecream, ice-cream cone | doughnut: donut |
cookie: biscuit | birthday cake: cake | cupcake: muffin | candy: sweets, sweet | coffee: cup of coffee, espresso |
teapot: tea pot | beer mug: beer, pint | wine glass: wine, glass of wine | car: auto, automobile, sedan | taxi: cab |
fire engine: fire truck, firetruck | truck: lorry, delivery truck | bicycle: bike, cycle, push bike |
motorcycle: motorbike | locomotive: steam train, steam engine | train: railway train | airplane: plane, aeroplane, aircraft, jet |
helicopter: chopper | rocket: spaceship, spacecraft | flying saucer: ufo | sailboat: boat, sailing boat, yacht |
ship: cruise ship, ocean liner | house: home, building, cottage | castle: fortress | ferris wheel: big wheel |
traffic light: stoplight | umbrella: parasol | balloon: red balloon | gift: present, gift box | christmas tree: xmas tree |
pumpkin: jack-o-lantern, halloween pumpkin | trophy: prize cup | soccer ball: football ball, ball, soccer | football: american football, rugby ball |
teddy bear: teddy, plush bear | game controller: gamepad, joystick | top hat: hat | t-shirt: tshirt, shirt | jeans: trousers, pants |
running shoe: sneaker, trainer shoe | shoe: dress shoe | high heel: high-heeled shoe, heels | handbag: bag, purse bag |
backpack: rucksack, school bag | glasses: spectacles, eyeglasses | gem: diamond, jewel | violin: fiddle | drum: drums |
microphone: mic | headphones: headset, earphones | mobile phone: phone, smartphone, cell phone, iphone |
laptop: notebook computer, computer, macbook | television: tv, telly | camera: photo camera | light bulb: bulb, lamp |
books: stack of books | closed book: book | envelope: letter, mail | pencil: pen | padlock: lock | couch: sofa |
robot: android, bot | ghost: spook | alien: extraterrestrial, martian | skull: skull head | person standing: person, human |
woman: lady | man: guy | girl: young girl | boy: young boy | child: kid | old man: grandpa, grandfather | old woman: grandma, grandmother |
jeep: suv | racing car: race car, formula one car, sports car | minibus: van | alarm clock: clock | desktop computer: pc, computer screen, monitor |
amphora: vase, jar | bed: bedroom bed | luggage: suitcase | champagne: bottle, bottle of wine | cup with straw: soda, soft drink |
knife: kitchen knife | tram: streetcar | tropical fish: goldfish, clownfish | evergreen tree: pine tree, fir tree, pine, fir |
smiley face: smiley, happy face, grinning face, emoji, smile | crying face: sad face | santa claus: santa, father christmas |
wizard: mage, magician, sorcerer | police officer: policeman, cop | astronaut: spaceman, cosmonaut | cook: chef | baby: infant |
heart: love heart, red heart | globe: earth, world | ring: diamond ring | watch: wristwatch | chipmunk: squirrel |
caterpillar: worm, bug | cricket: grasshopper | shrimp: prawn | brontosaurus: brachiosaurus | hippopotamus: hippo | tiger: bengal tiger |
wave: ocean wave, sea wave | lightning: thunderbolt, lightning bolt | tornado: hurricane, twister | desert island: island |
mountain: mountains, snowy mountain | kick scooter: kickboard | die: dice | puzzle piece: jigsaw | gold medal: medal |
piano keyboard: piano | telephone: old telephone, landline | dagger: sword | old key: antique key | bathtub: bath |
ice cube: ice | glass of milk: milk | cocktail: tropical drink | spaghetti: pasta, noodles | steak: meat, cut of meat |
chicken leg: drumstick, fried chicken | bouquet: bunch of flowers, flowers bouquet | seedling: sprout, plant | rock: stone, boulder |
spiral shell: shell, seashell | ribbon: bow | floppy disk: diskette | computer mouse: pc mouse | pill: tablet, medicine |
chequered flag: checkered flag, racing flag | person in lotus position: yoga, person meditating | fuel pump: gas pump, petrol pump |
die: game die | girl: schoolgirl | woman dancing: dancer | speedboat: motorboat | canoe: kayak | police car: cop car | scooter: moped, vespa
"""

_PLURALS = {
    "sheep": "sheep", "deer": "deer", "fish": "fish", "blowfish": "blowfish", "goose": "geese", "mouse": "mice", "mouse face": "mouse faces",
    "wolf": "wolves", "knife": "knives", "leaf": "leaves", "maple leaf": "maple leaves", "man": "men", "woman": "women",
    "child": "children", "policeman": "policemen", "ox": "oxen", "person": "people", "tooth": "teeth", "die": "dice",
    "tropical fish": "tropical fish", "old man": "old men", "old woman": "old women", "loaf": "loaves", "gold fish": "goldfish",
    "person standing": "people standing", "police officer": "police officers", "pot of food": "pots of food",
    "roll of paper": "rolls of paper", "glass of milk": "glasses of milk", "cup of coffee": "cups of coffee",
    "statue of liberty": "statues of liberty", "ear of corn": "ears of corn", "bow and arrow": "bows and arrows", "shrimp": "shrimps",
    "bottle of wine": "bottles of wine", "glass of wine": "glasses of wine", "bunch of flowers": "bunches of flowers", "hero": "heroes",
    "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes", "volcano": "volcanoes", "mosquito": "mosquitoes",
}  # fmt: skip

UNCOUNTED = world.NO_ARTICLE | {
    "socks", "gloves", "garlic", "peanuts", "paw prints", "lightning", "sunshine", "bowling", "soap", "money", "tea", "champagne glasses",
    "spaghetti", "salad", "bacon", "steak", "butter", "custard", "fallen leaves", "wood", "coral", "nesting dolls", "fireworks",
    "toast", "maize", "fries", "chips", "sweets", "beer", "wine", "trousers", "pants", "heels", "spectacles", "eyeglasses", "drums",
    "earphones", "pasta", "noodles", "meat", "milk", "ice", "medicine", "yoga", "soccer", "dice", "cattle", "mail", "sunglasses",
    "the sun", "coffee", "santa claus", "santa", "father christmas", "earth", "cooking", "mountains", "bananas bunch", "saturn",
}  # fmt: skip
"""Names that a caption says without an article."""

COLOURS: Mapping[str, tuple[int, int, int]] = {
    **world.COLOURS,
    "black": (28, 28, 30),
    "turquoise": (64, 208, 196),
    "teal": (20, 128, 128),
    "cyan": (80, 220, 240),
    "navy": (24, 36, 104),
    "light blue": (168, 208, 244),
    "dark blue": (28, 52, 128),
    "sky blue": (128, 196, 240),
    "light green": (168, 224, 160),
    "dark green": (28, 92, 48),
    "lime": (160, 224, 48),
    "olive": (124, 124, 44),
    "magenta": (216, 52, 180),
    "violet": (148, 96, 224),
    "lavender": (206, 196, 244),
    "maroon": (116, 28, 40),
    "dark red": (136, 20, 28),
    "beige": (234, 220, 192),
    "cream": (252, 244, 214),
    "gold": (222, 176, 56),
    "silver": (190, 194, 200),
    "light gray": (212, 214, 218),
    "dark gray": (78, 82, 86),
    "peach": (252, 206, 170),
    "coral": (248, 128, 108),
}
"""Plain grounds, RGB: CSS's sixteen basic colours and what else people ask for."""

COLOUR_NAMES: Mapping[str, str] = {
    "grey": "gray", "light grey": "light gray", "dark grey": "dark gray", "aqua": "cyan", "fuchsia": "magenta", "golden": "gold",
    "navy blue": "navy", "tan": "beige", "pale blue": "light blue", "baby blue": "light blue", "bright green": "lime", "mint": "light green",
    "crimson": "dark red", "lilac": "lavender", "salmon": "coral", "ivory": "cream", "indigo": "violet", "burgundy": "maroon",
}  # fmt: skip
"""Other names of those colours."""

TINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black", "white", "turquoise")
"""Colours in which a thing itself can be asked for: "a blue car"."""

GROUNDS: Mapping[str, tuple[str, ...]] = {
    "grass": ("on grass", "on the grass", "in a meadow", "in a field", "on a lawn", "in the park", "in a garden"),
    "sky": ("in the sky", "in the air", "flying in the sky", "above the clouds"),
    "space": ("in space", "in outer space", "among the stars", "in the universe"),
    "sea": ("by the sea", "on the beach", "at the beach", "at the seaside", "by the ocean"),
    "water": ("in the water", "in the sea", "underwater", "under water", "in the ocean", "swimming"),
    "table": ("on a table", "on the table", "on a wooden table", "on a desk"),
    "snow": ("in the snow", "on snow", "in winter"),
    "desert": ("in the desert", "on sand", "in the sand"),
    "night": ("at night", "in the night", "under the stars", "in the moonlight"),
    "forest": ("in the forest", "in the woods", "in the jungle", "among trees"),
    "street": ("on the street", "on the road", "on a street", "in the city", "in town"),
    "room": ("in a room", "indoors", "at home", "in the house", "in the living room", "on the floor"),
    "sunset": ("at sunset", "in the sunset", "at sunrise", "at dusk", "in the evening"),
}
"""Grounds with a horizon or a gradient, and how people say them; the first is the one shown in lists."""

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath", "underneath"),
    "and": ("and", "with", "next to", "beside", "near", "and"),
}
NUMBERS = {2: ("two", "2", "a pair of", "two"), 3: ("three", "3"), 4: ("four", "4")}
SMALL, BIG = ("small", "tiny", "little"), ("big", "large", "huge", "giant")
PREFIXES = (
    "a photo of", "photo of", "a picture of", "picture of", "an image of", "image of", "a drawing of", "drawing of", "a painting of",
    "an illustration of", "a sticker of", "an emoji of", "a portrait of", "a photograph of", "a cartoon of", "a sketch of", "draw",
    "please draw", "show me", "make", "paint", "generate", "i want", "can you draw", "a close-up of",
)  # fmt: skip
ADJECTIVES = (
    "cute", "beautiful", "nice", "funny", "happy", "pretty", "realistic", "cool", "lovely", "sweet", "fresh", "colorful", "colourful",
    "adorable", "fantastic", "old", "young", "modern", "simple", "single", "shiny", "fluffy", "friendly", "detailed", "smiling",
)  # fmt: skip
SUFFIXES = (
    "4k", "8k", "highly detailed", "high quality", "masterpiece", "digital art", "cartoon style", "cartoon", "trending on artstation",
    "sharp focus", "best quality", "watercolor", "3d render", "ultra realistic", "hd", "studio lighting", "vector art", "flat design",
    "sticker", "emoji", "minimalist", "photorealistic", "professional photo", "oil painting", "please", "award winning", "clean",
)  # fmt: skip
FILLERS = frozenset(
    word
    for text in (*PREFIXES, *ADJECTIVES, *SUFFIXES)
    for word in re.findall(r"[\w-]+", text.lower())
)
"""Words that a prompt may hold and that change nothing."""


def _things() -> tuple[Thing, ...]:
    more = [Thing(*reversed(entry.strip().split(" ", 1))) for entry in _MORE.replace("\n", " ").split(",")]  # type: ignore[misc]
    unique = {thing.name: thing for thing in (*world.THINGS, *world.EXTRAS, *more)}
    return tuple(unique.values())


THINGS: tuple[Thing, ...] = _things()
"""All that the starter draws."""


def _synonyms() -> dict[str, str]:
    known = {thing.name for thing in THINGS}
    table: dict[str, str] = {}
    for entry in _SYNONYMS.replace("\n", " ").split("|"):
        name, _, words = entry.partition(":")
        assert name.strip() in known, name
        for word in words.split(","):
            if word.strip() not in known:
                table.setdefault(word.strip(), name.strip())
    return table


SYNONYMS: Mapping[str, str] = _synonyms()
"""Other word -> thing."""


def plural(name: str) -> str:
    """More than one of it: "foxes", "cherries", "mice"."""
    if name in _PLURALS:
        return _PLURALS[name]
    if name in UNCOUNTED:
        return name
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    return f"{name}es" if re.search(r"(s|x|z|ch|sh)$", name) else f"{name}s"


def phrase(name: str) -> str:
    """One of it as a caption says it: "a pizza", "an owl", "grapes"."""
    if name in UNCOUNTED:
        return name
    vowel = name[0] in "aeiou" and not name.startswith(("uni", "eu", "ufo"))
    return f"{'an' if vowel else 'a'} {name}"
