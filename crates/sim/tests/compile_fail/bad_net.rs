use rekindle_sim::Component;

#[derive(Clone, Component)]
#[component(id = "position")]
struct Position {
    #[net(bits = 8)]
    x: f32,
}

#[derive(Clone, Component)]
#[component(id = "size")]
struct Size {
    #[net(min = 0.0, max = 1.0, bits = 40)]
    x: f32,
}

#[derive(Clone, Component)]
#[component(id = "level")]
struct Level {
    #[net(min = 0.0, max = 9.0, bits = 4)]
    level: u8,
}

#[derive(Clone, Component)]
#[component(id = "speed")]
struct Speed {
    #[net(angle, bits = 9, rate = "spin")]
    angle: f32,
}

#[derive(Clone, Component)]
#[component(id = "flag")]
struct Flag {
    #[net(bits = 1)]
    up: bool,
}

#[derive(Clone, Component)]
#[component(id = "text")]
struct Text {
    #[net(bits = 8)]
    text: String,
}

#[derive(Clone, Component)]
#[component(id = "upside-down")]
struct UpsideDown {
    #[net(min = 1.0, max = -1.0, bits = 8)]
    x: f32,
}

fn main() {}
